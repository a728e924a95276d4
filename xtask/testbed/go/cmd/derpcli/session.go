package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/payload"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
)

// session is one connected client and its receive loop.
type session struct {
	priv   key.NodePrivate
	opts   target.ClientOptions
	client *derphttp.Client
	broken chan error // receives once, when the connection is gone
}

// command is one line of input. Cmd is send, ping, note_preferred, watch,
// close_peer or forward.
type command struct {
	Cmd string `json:"cmd"`
	ID  string `json:"id"` // copied into the answer

	Dst  key.NodePublic `json:"dst"`
	Src  key.NodePublic `json:"src"`  // forward
	Peer key.NodePublic `json:"peer"` // close_peer

	// What to send: Hex, or Size bytes of the stream of Seed; Count times.
	Hex   string `json:"hex"`
	Size  int    `json:"size"`
	Seed  byte   `json:"seed"`
	Count int    `json:"count"`

	Value bool `json:"value"` // note_preferred
}

// received is the line for one message from the server.
type received struct {
	Event  string `json:"event"`
	Type   string `json:"type"`
	Src    string `json:"src,omitempty"`
	Peer   string `json:"peer,omitempty"`
	Size   *int   `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Hex    string `json:"hex,omitempty"`
	Reason *int   `json:"reason,omitempty"`
	Addr   string `json:"addr,omitempty"`
	Flags  *int   `json:"flags,omitempty"`
	Text   string `json:"text,omitempty"`
	// server_info
	BytesPerSecond int `json:"bytes_per_second,omitempty"`
	Burst          int `json:"burst,omitempty"`
	// restarting
	ReconnectInMS int64 `json:"reconnect_in_ms,omitempty"`
	TryForMS      int64 `json:"try_for_ms,omitempty"`
}

func (s *session) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	c, err := relay.NewClient(ctx, s.priv, s.opts)
	if err != nil {
		return err
	}
	if err := c.Connect(ctx); err != nil {
		return err
	}
	s.client = c
	s.broken = make(chan error, 1)
	ev, err := s.connectedEvent()
	if err != nil {
		return err
	}
	out.Line(ev)
	go receive(c, s.broken)
	return nil
}

// receive writes a line for each message until the connection breaks. It stops
// there: one more call would reconnect.
func receive(c *derphttp.Client, broken chan<- error) {
	for {
		m, err := c.Recv()
		if err != nil {
			broken <- err
			return
		}
		if p, ok := m.(derp.PingMessage); ok {
			// Go's own users answer pings; a failure shows in the next Recv.
			_ = c.SendPong(p)
		}
		out.Line(describe(m))
	}
}

func describe(m derp.ReceivedMessage) received {
	r := received{Event: "recv"}
	switch m := m.(type) {
	case derp.ServerInfoMessage:
		r.Type, r.BytesPerSecond, r.Burst = "server_info", m.TokenBucketBytesPerSecond, m.TokenBucketBytesBurst
	case derp.ReceivedPacket:
		sum := sha256.Sum256(m.Data)
		size := len(m.Data)
		r.Type, r.Src, r.Size, r.SHA256 = "packet", m.Source.String(), &size, hex.EncodeToString(sum[:])
		if size <= *dataLimit {
			r.Hex = hex.EncodeToString(m.Data)
		}
	case derp.PeerGoneMessage:
		reason := int(m.Reason)
		r.Type, r.Peer, r.Reason = "peer_gone", m.Peer.String(), &reason
	case derp.PeerPresentMessage:
		flags := int(m.Flags)
		r.Type, r.Peer, r.Addr, r.Flags = "peer_present", m.Key.String(), m.IPPort.String(), &flags
	case derp.PingMessage:
		r.Type, r.Hex = "ping", hex.EncodeToString(m[:])
	case derp.PongMessage:
		r.Type, r.Hex = "pong", hex.EncodeToString(m[:])
	case derp.KeepAliveMessage:
		r.Type = "keep_alive"
	case derp.HealthMessage:
		r.Type, r.Text = "health", m.Problem
	case derp.ServerRestartingMessage:
		r.Type, r.ReconnectInMS, r.TryForMS = "restarting", m.ReconnectIn.Milliseconds(), m.TryFor.Milliseconds()
	default:
		r.Type = fmt.Sprintf("%T", m)
	}
	return r
}

func (s *session) execute(ctx context.Context, c *command) error {
	switch c.Cmd {
	case "send":
		return c.each(func(data []byte) error { return s.client.Send(c.Dst, data) })
	case "forward":
		return c.each(func(data []byte) error { return s.client.ForwardPacket(c.Src, c.Dst, data) })
	case "ping":
		return s.client.Ping(ctx)
	case "note_preferred":
		s.client.NotePreferred(c.Value)
		return nil
	case "close_peer":
		return s.client.ClosePeer(c.Peer)
	case "watch":
		// Go's client subscribes only while it connects, so it connects anew.
		if err := s.client.Close(); err != nil {
			return err
		}
		<-s.broken
		s.opts.Watch = true
		return s.connect()
	}
	return fmt.Errorf("unknown command %q", c.Cmd)
}

// each calls send for every packet that the command asks for.
func (c *command) each(send func([]byte) error) error {
	data := payload.Bytes(c.Seed, c.Size)
	if c.Hex != "" {
		var err error
		if data, err = hex.DecodeString(c.Hex); err != nil {
			return err
		}
	}
	for range max(c.Count, 1) {
		if err := send(data); err != nil {
			return err
		}
	}
	return nil
}
