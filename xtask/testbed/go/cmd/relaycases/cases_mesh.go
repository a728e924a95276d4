package main

import (
	"net/netip"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// presents reads PeerPresent messages until all the keys in want were seen with
// their flags. Others are passed over: a relay that serves a mesh may have them.
func (p *peer) presents(want map[key.NodePublic]derp.PeerPresentFlags) {
	for len(want) > 0 {
		m := p.next()
		got, ok := m.(derp.PeerPresentMessage)
		if !ok {
			p.r.fatalf("got %s, want PeerPresent for %d more", show(m), len(want))
		}
		flags, ok := want[got.Key]
		if !ok {
			continue
		}
		p.r.check(got.Flags == flags, "flags of %s are %#x, want %#x", got.Key.ShortString(), int(got.Flags), int(flags))
		p.r.check(got.IPPort.Port() != 0 && got.IPPort.Addr().IsValid(), "address of %s is %v", got.Key.ShortString(), got.IPPort)
		delete(want, got.Key)
	}
}

func meshWatch(r *run) {
	a := r.plainPeer()
	w1 := r.watcher()
	w1.presents(map[key.NodePublic]derp.PeerPresentFlags{
		a.key: derp.PeerPresentIsRegular, w1.key: derp.PeerPresentIsMeshPeer,
	})
	b := r.plainPeer()
	w1.presents(map[key.NodePublic]derp.PeerPresentFlags{b.key: derp.PeerPresentIsRegular})
	w2 := r.watcher()
	w1.presents(map[key.NodePublic]derp.PeerPresentFlags{w2.key: derp.PeerPresentIsMeshPeer})
	w2.presents(map[key.NodePublic]derp.PeerPresentFlags{
		a.key: derp.PeerPresentIsRegular, b.key: derp.PeerPresentIsRegular,
		w1.key: derp.PeerPresentIsMeshPeer, w2.key: derp.PeerPresentIsMeshPeer,
	})
	a.close()
	w1.wantGone(a.key, derp.PeerGoneReasonDisconnected)
	w2.wantGone(a.key, derp.PeerGoneReasonDisconnected)
	// A key that has gone is in no later flood.
	w3 := r.watcher()
	w3.presents(map[key.NodePublic]derp.PeerPresentFlags{
		b.key: derp.PeerPresentIsRegular, w1.key: derp.PeerPresentIsMeshPeer,
		w2.key: derp.PeerPresentIsMeshPeer, w3.key: derp.PeerPresentIsMeshPeer,
	})
	for {
		m, quiet := w3.quietFor(grace)
		if quiet {
			break
		}
		p, ok := m.(derp.PeerPresentMessage)
		r.check(!ok || p.Key != a.key, "the flood has a client that left")
	}
}

// meshFlags also looks at the frame itself, whose length Go's client ignores.
func meshFlags(r *run) {
	w := r.watcher()
	w.presents(map[key.NodePublic]derp.PeerPresentFlags{w.key: derp.PeerPresentIsMeshPeer})
	prober := r.peer(target.ClientOptions{Prober: true})
	w.presents(map[key.NodePublic]derp.PeerPresentFlags{prober.key: derp.PeerPresentIsProber})

	priv, ideal := key.NewNode(), key.NewNode()
	c := r.dialRaw()
	c.upgraded(r.request("Ideal-Node: elsewhere"))
	server := c.readServerKey()
	c.write(clientInfo(ideal, server, `{"version":2,"IsProber":true}`))
	c.wantServerInfo(ideal, server)
	w.presents(map[key.NodePublic]derp.PeerPresentFlags{ideal.Public(): derp.PeerPresentIsProber | derp.PeerPresentNotIdeal})

	raw, server := r.greeted()
	raw.write(clientInfo(priv, server, `{"meshKey":"`+r.relay.Mesh.String()+`","version":2}`))
	raw.wantServerInfo(priv, server)
	raw.write(frame(derp.FrameWatchConns))
	seen := map[string]bool{}
	for !seen[string(priv.Public().AppendTo(nil))] {
		b := raw.wantFrame(derp.FramePeerPresent)
		r.check(len(b) == 51, "PeerPresent of %d bytes", len(b))
		addr, ok := netip.AddrFromSlice(b[32:48])
		r.check(ok && (addr.Is4In6() || !addr.Unmap().Is4()), "address %x is not in its 16-byte form", b[32:48])
		seen[string(b[:32])] = true
	}
}

func meshDuplicates(r *run) {
	w := r.watcher()
	w.presents(map[key.NodePublic]derp.PeerPresentFlags{w.key: derp.PeerPresentIsMeshPeer})
	priv := key.NewNode()
	first := r.peerWithKey(priv, plain)
	w.presents(map[key.NodePublic]derp.PeerPresentFlags{first.key: derp.PeerPresentIsRegular})
	second := r.peerWithKey(priv, plain)
	w.presents(map[key.NodePublic]derp.PeerPresentFlags{second.key: derp.PeerPresentIsRegular})
	first.close()
	w.wantQuiet()
	second.close()
	w.wantGone(second.key, derp.PeerGoneReasonDisconnected)
	w.wantQuiet()
}

func meshForward(r *run) {
	m, b := r.meshPeer(), r.plainPeer()
	src := key.NewNode().Public()
	r.must("forwarding", m.c.ForwardPacket(src, b.key, []byte("from afar")))
	b.wantPacket(src, []byte("from afar"))
	r.must("forwarding", m.c.ForwardPacket(src, b.key, nil))
	b.wantPacket(src, nil)
	// One byte too large closes, as with packets of one's own.
	priv := key.NewNode()
	raw, server := r.greeted()
	raw.write(clientInfo(priv, server, `{"meshKey":"`+r.relay.Mesh.String()+`","version":2}`))
	raw.wantServerInfo(priv, server)
	raw.write(frame(derp.FrameForwardPacket, src.AppendTo(nil), b.key.AppendTo(nil), make([]byte, derp.MaxPacketSize)))
	b.wantPacket(src, make([]byte, derp.MaxPacketSize))
	raw.provoke(frame(derp.FrameForwardPacket, src.AppendTo(nil), b.key.AppendTo(nil), make([]byte, derp.MaxPacketSize+1)))
	raw.wantClosed()
}

func meshForwardNotHere(r *run) {
	m := r.meshPeer()
	src, nobody := key.NewNode().Public(), key.NewNode().Public()
	for range 5 {
		r.must("forwarding", m.c.ForwardPacket(src, nobody, disco()))
	}
	for range 3 {
		m.wantGone(nobody, derp.PeerGoneReasonNotHere)
	}
	r.must("forwarding", m.c.ForwardPacket(src, nobody, []byte("data")))
	m.ping()
}

func meshClosePeer(r *run) {
	m := r.meshPeer()
	priv := key.NewNode()
	first, second, other := r.peerWithKey(priv, plain), r.peerWithKey(priv, plain), r.plainPeer()
	r.must("closing", m.c.ClosePeer(first.key))
	first.wantClosed()
	second.wantClosed()
	// Somebody who is not there is no error.
	r.must("closing", m.c.ClosePeer(key.NewNode().Public()))
	m.ping()
	other.wantQuiet()
}

func meshWithoutKey(r *run) {
	b := r.plainPeer()
	k := b.key.AppendTo(nil)
	for name, f := range map[string][]byte{
		"WatchConns":    frame(derp.FrameWatchConns),
		"ClosePeer":     frame(derp.FrameClosePeer, k),
		"ForwardPacket": frame(derp.FrameForwardPacket, k, k, []byte("x")),
	} {
		c := r.loggedIn(key.NewNode())
		c.provoke(f)
		if wrong := c.stillOpen(patience); wrong != "" {
			r.fatalf("%s: %s", name, wrong)
		}
	}
	b.wantQuiet()
}

func meshWrongKey(r *run) {
	wrong := []byte(r.relay.Mesh.String())
	if wrong[0]++; wrong[0] > 'f' || wrong[0] == ':' {
		wrong[0] = '0'
	}
	priv := key.NewNode()
	c, server := r.greeted()
	c.write(clientInfo(priv, server, `{"meshKey":"`+string(wrong)+`","version":2}`))
	c.wantServerInfo(priv, server)
	c.pingRaw()
	c.provoke(frame(derp.FrameWatchConns))
	c.wantClosed()
}
