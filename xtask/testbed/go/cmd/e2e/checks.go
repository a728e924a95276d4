package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/net/netcheck"
)

// pongVia is a line of `tailscale ping`, such as
// "pong from b (100.64.0.2) via DERP(test) in 2ms".
var pongVia = regexp.MustCompile(`(?m)^pong from \S+ \(\S+\) via (\S+) in (\S+)$`)

// ping wants every answer to come through the relay.
func (t *testbed) ping(ctx context.Context, r *report) error {
	peer, err := peerOf(t.a.status)
	if err != nil {
		return err
	}
	text, err := t.cli(ctx, t.a, "ping", "--c=5", "--until-direct=false", "--timeout=5s", peer.TailscaleIPs[0].String())
	r.Ping.Output = strings.Split(strings.TrimSpace(text), "\n")
	if err != nil && !strings.Contains(text, "pong from") {
		return err
	}
	pongs := pongVia.FindAllStringSubmatch(text, -1)
	if len(pongs) == 0 {
		return fmt.Errorf("ping was not answered: %s", text)
	}
	for _, p := range pongs {
		r.Ping.Via = p[1]
		if p[1] != "DERP("+target.RegionCode+")" {
			return fmt.Errorf("ping was answered via %s", p[1])
		}
	}
	took, err := time.ParseDuration(pongs[len(pongs)-1][2])
	r.Ping.LastMS = float64(took.Microseconds()) / 1000
	return err
}

// netcheck wants the relay's latency measured with STUN.
func (t *testbed) netcheck(ctx context.Context, r *report) error {
	text, err := t.cli(ctx, t.b, "netcheck", "--format=json")
	if err != nil {
		return err
	}
	var rep netcheck.Report
	if err := json.Unmarshal([]byte(text), &rep); err != nil {
		return fmt.Errorf("netcheck said %q: %w", text, err)
	}
	// The field is RegionV4Latency, which only STUN fills.
	r.Netcheck.UDP, r.Netcheck.Preferred = rep.UDP, rep.PreferredDERP
	r.Netcheck.LatencyMS = float64(rep.RegionV4Latency[target.RegionID].Microseconds()) / 1000
	r.Netcheck.GlobalV4 = rep.GlobalV4.String()
	switch {
	case !rep.UDP || r.Netcheck.LatencyMS == 0:
		return fmt.Errorf("netcheck has no STUN latency: %s", text)
	case rep.PreferredDERP != target.RegionID:
		return fmt.Errorf("netcheck prefers region %d", rep.PreferredDERP)
	case rep.GlobalV4.Addr().String() != bIP:
		return fmt.Errorf("netcheck was told the address %v, not %s", rep.GlobalV4, bIP)
	}
	return nil
}

// debugDERP runs the client's own examination of a region, which connects five
// times, asks for captive portals and sends a STUN request.
func (t *testbed) debugDERP(ctx context.Context, r *report) error {
	text, err := t.cli(ctx, t.a, "debug", "derp", strconv.Itoa(target.RegionID))
	if err != nil {
		return err
	}
	var rep ipnstate.DebugDERPRegionReport
	if err := json.Unmarshal([]byte(text), &rep); err != nil {
		return fmt.Errorf("debug derp said %q: %w", text, err)
	}
	r.DebugDERP = &rep
	var all []error
	for _, e := range append(rep.Errors, rep.Warnings...) {
		// There is no IPv6 here and only one region; neither is about the relay.
		if !strings.Contains(e, " over IPv6: ") && !strings.Contains(e, "only a single DERP region") {
			all = append(all, fmt.Errorf("debug derp: %s", e))
		}
	}
	for _, want := range []string{"Successfully established a DERP connection", "returned IPv4 STUN response: " + aIP + ":"} {
		if !strings.Contains(strings.Join(rep.Info, "\n"), want) {
			all = append(all, fmt.Errorf("debug derp does not say %q", want))
		}
	}
	return errors.Join(all...)
}

// path wants both nodes to have no direct path to each other.
func (t *testbed) path(ctx context.Context, r *report) error {
	for _, n := range []*node{t.a, t.b} {
		st, err := n.api.Status(ctx)
		if err != nil {
			return err
		}
		peer, err := peerOf(st)
		if err != nil {
			return err
		}
		r.Path.CurAddr, r.Path.Relay = peer.CurAddr, peer.Relay
		if peer.CurAddr != "" || peer.Relay != target.RegionCode {
			return fmt.Errorf("node %s reaches the other by %q, relay %q", n.name, peer.CurAddr, peer.Relay)
		}
	}
	return nil
}
