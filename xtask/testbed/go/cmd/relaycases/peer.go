package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
)

// peer is a connected client of Go's with its messages in a channel. Pings and
// keep-alives are taken care of and not delivered.
type peer struct {
	r     *run
	c     *derphttp.Client
	priv  key.NodePrivate
	key   key.NodePublic
	inbox chan derp.ReceivedMessage // closed when the connection is gone
	err   error                     // why; read after inbox is closed
}

// peer connects a client with a new key and waits until it is admitted.
func (r *run) peer(o target.ClientOptions) *peer { return r.peerWithKey(key.NewNode(), o) }

// plainPeer is a peer without any options, as tailscaled is one.
func (r *run) plainPeer() *peer { return r.peer(target.ClientOptions{CanAckPings: true}) }

// meshPeer is a peer that presents the mesh key.
func (r *run) meshPeer() *peer { return r.peer(target.ClientOptions{UseURL: true, Mesh: true}) }

// watcher is a mesh peer that subscribes to membership.
func (r *run) watcher() *peer {
	return r.peer(target.ClientOptions{UseURL: true, Mesh: true, Watch: true})
}

func (r *run) peerWithKey(priv key.NodePrivate, o target.ClientOptions) *peer {
	p := r.connect(priv, o)
	p.wantServerInfo()
	return p
}

// connect returns as soon as Go's client counts itself connected, which is
// before the relay has admitted it.
func (r *run) connect(priv key.NodePrivate, o target.ClientOptions) *peer {
	o.Logf = out.Logf(r.verbose)
	c, err := r.relay.NewClient(r.ctx, priv, o)
	r.must("making a client", err)
	r.must("connecting", c.Connect(r.ctx))
	p := &peer{r: r, c: c, priv: priv, key: priv.Public(), inbox: make(chan derp.ReceivedMessage, 4096)}
	r.cleanup(p.close)
	go p.pump()
	return p
}

// pump reads until the connection breaks, and stops there: one more call would
// make Go's client reconnect.
func (p *peer) pump() {
	defer close(p.inbox)
	for {
		m, err := p.c.Recv()
		if err != nil {
			p.err = err
			return
		}
		switch m := m.(type) {
		case derp.PingMessage:
			// If this fails, so does the next Recv.
			_ = p.c.SendPong(m)
			continue
		case derp.KeepAliveMessage:
			continue
		case derp.ReceivedPacket:
			m.Data = slices.Clone(m.Data)
			p.inbox <- m
			continue
		}
		p.inbox <- m
	}
}

// close ends the connection and waits until this side knows it.
func (p *peer) close() {
	// It only fails if it was closed before.
	_ = p.c.Close()
	for range p.inbox {
	}
}

// next returns the next message.
func (p *peer) next() derp.ReceivedMessage {
	select {
	case m, ok := <-p.inbox:
		if !ok {
			p.r.fatalf("the connection closed while waiting for a message: %v", p.err)
		}
		return m
	case <-time.After(patience):
		p.r.fatalf("no message within %v", patience)
	case <-p.r.ctx.Done():
		p.r.fatalf("out of time waiting for a message")
	}
	panic("unreachable")
}

func (p *peer) wantServerInfo() {
	m := p.next()
	_, ok := m.(derp.ServerInfoMessage)
	p.r.check(ok, "first message is %s, not ServerInfo", show(m))
}

func (p *peer) send(dst *peer, data []byte) { p.sendTo(dst.key, data) }

func (p *peer) sendTo(dst key.NodePublic, data []byte) { p.r.must("sending", p.c.Send(dst, data)) }

func (p *peer) wantPacket(src key.NodePublic, data []byte) {
	m := p.next()
	got, ok := m.(derp.ReceivedPacket)
	p.r.check(ok, "got %s, want a packet of %d bytes", show(m), len(data))
	p.r.check(got.Source == src, "packet from %s, want %s", got.Source.ShortString(), src.ShortString())
	p.r.check(bytes.Equal(got.Data, data), "packet of %d bytes differs from the %d bytes sent", len(got.Data), len(data))
}

func (p *peer) wantGone(k key.NodePublic, reason derp.PeerGoneReasonType) {
	p.wantMessage(derp.PeerGoneMessage{Peer: k, Reason: reason})
}

// wantMessage wants a message that Go can compare, so not a packet.
func (p *peer) wantMessage(want derp.ReceivedMessage) {
	got := p.next()
	_, isPacket := got.(derp.ReceivedPacket)
	p.r.check(!isPacket && got == want, "got %s, want %s", show(got), show(want))
}

// quietFor says what arrived unexpectedly within d, or nothing.
func (p *peer) quietFor(d time.Duration) (derp.ReceivedMessage, bool) {
	select {
	case m, ok := <-p.inbox:
		if !ok {
			p.r.fatalf("the connection closed: %v", p.err)
		}
		return m, false
	case <-time.After(d):
		return nil, true
	}
}

// wantQuiet wants that nothing arrives. It pings first, so that the relay has
// read everything that this client sent before.
func (p *peer) wantQuiet() {
	p.ping()
	if m, quiet := p.quietFor(grace); !quiet {
		p.r.fatalf("got %s, want nothing", show(m))
	}
}

// wantClosed wants the relay to close the connection, without a message.
func (p *peer) wantClosed() {
	select {
	case m, ok := <-p.inbox:
		p.r.check(!ok, "got %s, want the connection closed", show(m))
	case <-time.After(patience):
		p.r.fatalf("the connection is still open after %v", patience)
	}
}

// ping makes a round trip through the relay. Messages that arrive meanwhile
// stay in the inbox.
func (p *peer) ping() {
	ctx, cancel := context.WithTimeout(p.r.ctx, patience)
	defer cancel()
	p.r.must("ping", p.c.Ping(ctx))
}

func show(m derp.ReceivedMessage) string {
	switch m := m.(type) {
	case derp.ReceivedPacket:
		return fmt.Sprintf("a packet of %d bytes from %s", len(m.Data), m.Source.ShortString())
	case derp.PeerGoneMessage:
		return fmt.Sprintf("PeerGone(%s, reason %d)", m.Peer.ShortString(), m.Reason)
	case derp.PeerPresentMessage:
		return fmt.Sprintf("PeerPresent(%s, %v, flags %#x)", m.Key.ShortString(), m.IPPort, int(m.Flags))
	}
	return fmt.Sprintf("%T%+v", m, m)
}
