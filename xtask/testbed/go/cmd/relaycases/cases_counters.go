package main

import (
	"fmt"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/varz"
	"tailscale.com/types/key"
)

func (r *run) counters() varz.Counters {
	c, err := varz.Fetch(r.ctx, r.relay.HTTPClient(), r.relay.BaseURL())
	r.must("counters", err)
	return c
}

// countersFollow needs the relay to itself.
func countersFollow(r *run) {
	a, b := r.plainPeer(), r.plainPeer()
	before := r.counters()
	for range 10 {
		a.send(b, make([]byte, 1000))
		b.wantPacket(a.key, make([]byte, 1000))
	}
	a.sendTo(key.NewNode().Public(), make([]byte, 500))
	a.ping()
	r.eventually(func() string {
		got := r.counters().Flow().Since(before.Flow())
		want := varz.Flow{
			PacketsReceived: 11, PacketsSent: 10, PacketsDropped: 1,
			BytesReceived: 10_500, BytesSent: 10_000, BytesDropped: 500,
		}
		if got != want {
			return fmt.Sprintf("counters moved by %+v, want %+v", got, want)
		}
		return ""
	})
}

// homeCounters needs the relay to itself.
func homeCounters(r *run) {
	const clients, homes = "derp_current_connections", "derp_current_home_connections"
	before := r.counters()
	want := func(connected, home float64) {
		r.eventually(func() string {
			now := r.counters()
			c, h := now[clients]-before[clients], now[homes]-before[homes]
			if c != connected || h != home {
				return fmt.Sprintf("%v connected and %v at home, want %v and %v", c, h, connected, home)
			}
			return ""
		})
	}
	a := r.plainPeer()
	b := r.peer(target.ClientOptions{Preferred: true})
	want(2, 1)
	a.c.NotePreferred(true)
	a.c.NotePreferred(true)
	want(2, 2)
	a.c.NotePreferred(false)
	want(2, 1)
	b.close()
	want(1, 0)
	a.close()
	want(0, 0)
}

// countersBalance runs last: what all the cases before it sent must by now have
// been delivered, forwarded or dropped.
func countersBalance(r *run) {
	var flow varz.Flow
	r.eventually(func() string {
		flow = r.counters().Flow()
		if lost := flow.Lost(); lost != 0 {
			return fmt.Sprintf("%d packets are unaccounted for: %+v", lost, flow)
		}
		return ""
	})
	r.notef("%d packets in, %d out, %d dropped", flow.PacketsReceived, flow.PacketsSent, flow.PacketsDropped)
}
