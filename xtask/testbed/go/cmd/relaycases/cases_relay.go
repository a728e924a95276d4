package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/payload"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/derp"
	"tailscale.com/types/key"
)

func packetFromAReachesB(r *run) {
	a, b := r.plainPeer(), r.plainPeer()
	a.send(b, []byte("hello b"))
	b.wantPacket(a.key, []byte("hello b"))
	a.wantQuiet()
}

func packetFromBReachesA(r *run) {
	a, b, c := r.plainPeer(), r.plainPeer(), r.plainPeer()
	b.send(a, []byte("hello a"))
	a.wantPacket(b.key, []byte("hello a"))
	c.wantQuiet()
}

func packetToOneself(r *run) {
	a := r.plainPeer()
	a.send(a, []byte("note to self"))
	a.wantPacket(a.key, []byte("note to self"))
}

func emptyPacket(r *run) {
	a, b := r.plainPeer(), r.plainPeer()
	a.send(b, nil)
	b.wantPacket(a.key, nil)
}

func largestPacket(r *run) {
	a, b := r.plainPeer(), r.plainPeer()
	data := payload.Bytes(1, derp.MaxPacketSize)
	a.send(b, data)
	b.wantPacket(a.key, data)
}

func oversizedPacket(r *run) {
	b := r.plainPeer()
	a := r.loggedIn(key.NewNode())
	a.provoke(frame(derp.FrameSendPacket, b.key.AppendTo(nil), make([]byte, derp.MaxPacketSize+1)))
	a.wantClosed()
	b.wantQuiet()
}

// packetsInOrder keeps fewer packets in flight than a relay must queue, so that
// nothing may be dropped.
func packetsInOrder(r *run) {
	a, b := r.plainPeer(), r.plainPeer()
	const window = 16
	sizes := []int{1, 31, 32, 61, 62, 63, 255, 1280, 1452, 2043, 2048, 4059, 4091, 4096, 9000, 16384, 32768, 65000}
	var flying [][]byte
	for i := range 400 {
		data := payload.Bytes(byte(i), sizes[i%len(sizes)])
		a.send(b, data)
		flying = append(flying, data)
		if len(flying) == window {
			b.wantPacket(a.key, flying[0])
			flying = flying[1:]
		}
	}
	for _, data := range flying {
		b.wantPacket(a.key, data)
	}
}

func slowReceiver(r *run) {
	a, b := r.plainPeer(), r.plainPeer()
	stuckKey := key.NewNode()
	stuck := r.loggedIn(stuckKey) // reads nothing from here on
	_ = stuck
	data := payload.Bytes(2, 60_000)
	start := time.Now()
	for i := range 200 { // 12 MB, more than the sockets' buffers hold
		a.sendTo(stuckKey.Public(), data)
		if i%10 == 0 {
			a.send(b, data[:i+1])
			b.wantPacket(a.key, data[:i+1])
		}
	}
	r.notef("12 MB to a client that does not read took %v", time.Since(start).Round(time.Millisecond))
}

func pingAnswered(r *run) {
	p := r.plainPeer()
	for range 3 {
		p.ping()
	}
}

// longPing checks that a longer ping is allowed and that its first eight bytes
// come back.
func longPing(r *run) {
	c := r.loggedIn(key.NewNode())
	body := bytes.Repeat([]byte("x"), 1000)
	copy(body, "8 bytes!")
	c.write(frame(derp.FramePing, body))
	got := c.wantFrame(derp.FramePong)
	r.check(string(got) == "8 bytes!", "pong carries %q", got)
	c.pingRaw()
}

func wrongPing(r *run) {
	for _, n := range []int{0, 7, 1001} {
		c := r.loggedIn(key.NewNode())
		c.provoke(frame(derp.FramePing, make([]byte, n)))
		if wrong := c.stillOpen(patience); wrong != "" {
			r.fatalf("ping of %d bytes: %s", n, wrong)
		}
	}
}

// unknownFrame sends types that no version has assigned, and types that only
// relays send; both are passed over, whatever their length.
func unknownFrame(r *run) {
	c := r.loggedIn(key.NewNode())
	for _, t := range []derp.FrameType{0x77, 0xff, 0x00, derp.FrameKeepAlive, derp.FramePong, derp.FrameHealth, derp.FrameClientInfo} {
		for _, n := range []int{0, 1, 8, 5000, 100_000} {
			c.write(frame(t, make([]byte, n)))
		}
		c.pingRaw()
	}
}

func preferredAtLogin(r *run) {
	a := r.peer(target.ClientOptions{Preferred: true, CanAckPings: true})
	a.ping()
	for _, home := range []bool{false, false, true, true, false} {
		a.c.NotePreferred(home)
	}
	a.ping()
	// The same by hand: both frames in one write, before any answer.
	priv := key.NewNode()
	c, server := r.greeted()
	c.write(append(clientInfo(priv, server, plainInfo), frame(derp.FrameNotePreferred, []byte{1})...))
	c.wantServerInfo(priv, server)
	c.pingRaw()
}

func wrongPreferred(r *run) {
	for _, n := range []int{0, 2} {
		c := r.loggedIn(key.NewNode())
		c.provoke(frame(derp.FrameNotePreferred, make([]byte, n)))
		if wrong := c.stillOpen(patience); wrong != "" {
			r.fatalf("home note of %d bytes: %s", n, wrong)
		}
	}
}

// serverInfoFirst connects clients that somebody is already sending to.
func serverInfoFirst(r *run) {
	sender := r.plainPeer()
	privs := make([]key.NodePrivate, 10)
	for i := range privs {
		privs[i] = key.NewNode()
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			for _, p := range privs {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				if err := sender.c.Send(p.Public(), []byte("early")); err != nil {
					stopped <- fmt.Errorf("sending: %w", err)
					return
				}
			}
		}
	}()
	for _, priv := range privs {
		c := r.peerWithKey(priv, target.ClientOptions{CanAckPings: true}) // fails unless ServerInfo is first
		c.wantPacket(sender.key, []byte("early"))
		c.close()
	}
	close(stop)
	r.must("the sender", <-stopped)
}
