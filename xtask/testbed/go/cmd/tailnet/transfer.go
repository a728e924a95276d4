package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/payload"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/varz"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
)

func run(ctx context.Context, o *options, r *report) error {
	if err := o.relay.Resolve(); err != nil {
		return err
	}
	if o.ws {
		if err := o.relay.UseWebSockets(ctx, true); err != nil {
			return err
		}
	}
	if o.relay.PlainTCP {
		return errors.New("nodes speak TLS to every relay in a DERP map; -plain cannot work")
	}
	var before varz.Counters
	if !o.noVarz {
		var err error
		if before, err = counters(ctx, o); err != nil {
			return err
		}
	}
	region := o.relay.Region(o.stunPort)
	if o.delay > 0 || o.rate > 0 {
		p, err := startPath(o.relay.DialAddr(), o.delay, o.rate)
		if err != nil {
			return err
		}
		defer p.close()
		region.Nodes[0].DERPPort = p.port()
	}
	start := time.Now()
	t, err := startTailnet(ctx, region, o.verbose)
	if err != nil {
		return err
	}
	defer t.close()
	r.UpSeconds = time.Since(start).Seconds()
	a, b := t.nodes[0], t.nodes[1]
	r.UDP = a.report.UDP
	r.STUNLatencyMS = float64(a.report.RegionLatency[target.RegionID].Microseconds()) / 1000
	if o.stunPort > 0 && !a.report.UDP {
		return errors.New("the netcheck got no STUN answer")
	}

	if err := ping(ctx, a, b, r); err != nil {
		return err
	}
	if err := transfer(ctx, a, b, r); err != nil {
		return err
	}
	if err := provePath(ctx, a, b, r); err != nil {
		return err
	}
	if o.noVarz {
		return nil
	}
	return proveFlow(ctx, o, before, r)
}

// transfer moves r.Bytes from a to b, which sends back the hash of what it got.
func transfer(ctx context.Context, a, b *node, r *report) error {
	ln, err := b.Listen("tcp", ":7777")
	if err != nil {
		return err
	}
	defer ln.Close()
	type received struct {
		sum string
		err error
	}
	done := make(chan received, 1)
	go func() {
		sum, err := receive(ln, r.Bytes)
		done <- received{sum, err}
	}()

	conn, err := a.Dial(ctx, "tcp", netip.AddrPortFrom(b.ip, 7777).String())
	if err != nil {
		return fmt.Errorf("dialling over the tailnet: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close(); _ = ln.Close() })
	defer stop()
	start := time.Now()
	if _, err := io.Copy(conn, payload.Reader(1, r.Bytes)); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	var got received
	select {
	case got = <-done:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the last byte: %w", ctx.Err())
	}
	elapsed := time.Since(start)
	if got.err != nil {
		return fmt.Errorf("receiving: %w", got.err)
	}
	r.SHA256, r.Seconds = got.sum, elapsed.Seconds()
	r.MbitPerS = float64(r.Bytes) * 8 / 1e6 / r.Seconds
	if want := payload.Sum(1, r.Bytes); got.sum != want {
		return fmt.Errorf("received data has hash %s, want %s", got.sum, want)
	}
	return nil
}

func receive(ln net.Listener, n int64) (string, error) {
	conn, err := ln.Accept()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, conn, n); err != nil {
		return "", err
	}
	return payload.Hex(h), nil
}

// ping wants a disco ping answered through the relay. A relay may lose packets,
// so it may take several; the report tells how many.
func ping(ctx context.Context, a, b *node, r *report) error {
	lc, err := a.LocalClient()
	if err != nil {
		return err
	}
	// The daemon sends one packet and waits for as long as it may.
	var res *ipnstate.PingResult
	for res == nil {
		r.PingAttempts++
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		res, err = lc.Ping(once, b.ip, tailcfg.PingDisco)
		cancel()
		if err != nil && r.PingAttempts == 5 {
			return fmt.Errorf("ping: %w", err)
		}
	}
	if res.Err != "" {
		return fmt.Errorf("ping: %s", res.Err)
	}
	r.PingVia, r.PingMS = res.DERPRegionCode, res.LatencySeconds*1000
	if res.Endpoint != "" || res.DERPRegionID != target.RegionID {
		return fmt.Errorf("ping went by %q, region %d, not through the relay", res.Endpoint, res.DERPRegionID)
	}
	return nil
}

// provePath looks at the sender's own idea of its path to the receiver.
func provePath(ctx context.Context, a, b *node, r *report) error {
	lc, err := a.LocalClient()
	if err != nil {
		return err
	}
	st, err := lc.Status(ctx)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	var peer *ipnstate.PeerStatus
	if peer = st.Peer[b.key]; peer == nil {
		return errors.New("the sender's status does not know the receiver")
	}
	r.RelayCode, r.CurAddr = peer.Relay, peer.CurAddr
	if peer.CurAddr != "" || peer.Relay != target.RegionCode {
		return fmt.Errorf("path is %q, relay %q, want only relay %q", peer.CurAddr, peer.Relay, target.RegionCode)
	}
	return nil
}

func counters(ctx context.Context, o *options) (varz.Counters, error) {
	c, err := varz.Fetch(ctx, o.relay.HTTPClient(), o.relay.BaseURL())
	if err != nil {
		return nil, fmt.Errorf("the relay's counters: %w", err)
	}
	return c, nil
}

// proveFlow wants the relay to have carried at least what was transferred, and
// to account for every packet.
func proveFlow(ctx context.Context, o *options, before varz.Counters, r *report) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := counters(ctx, o)
		if err != nil {
			return err
		}
		f := now.Flow().Since(before.Flow())
		r.Flow = &f
		if f.BytesReceived < r.Bytes || f.BytesSent < r.Bytes {
			return fmt.Errorf("the relay counted %d bytes in and %d out for a transfer of %d", f.BytesReceived, f.BytesSent, r.Bytes)
		}
		r.WebSocketAccepts = int64(now.Sum("derp_websocket_accepts") - before.Sum("derp_websocket_accepts"))
		if o.ws && r.WebSocketAccepts < int64(len(nodeNames)) {
			return fmt.Errorf("the relay accepted %d WebSockets from %d nodes", r.WebSocketAccepts, len(nodeNames))
		}
		if f.Lost() == 0 {
			return nil
		}
		select {
		case <-tick.C: // the nodes still talk, so some packets may be under way
		case <-ctx.Done():
			return fmt.Errorf("%d packets are unaccounted for", f.Lost())
		}
	}
}
