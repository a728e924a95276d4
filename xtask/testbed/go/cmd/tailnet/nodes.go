package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/controlplane"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"tailscale.com/ipn/store/mem"
	"tailscale.com/net/netcheck"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/types/key"
)

var nodeNames = []string{"a", "b"}

// tailnet is a control server and two nodes.
type tailnet struct {
	dir   string
	ln    net.Listener
	nodes []*node
}

type node struct {
	*tsnet.Server
	ip     netip.Addr
	key    key.NodePublic
	report *netcheck.Report
}

// startTailnet brings up both nodes and waits until each has the relay as its
// home, is connected to it, and knows the other.
func startTailnet(ctx context.Context, region *tailcfg.DERPRegion, verbose bool) (_ *tailnet, err error) {
	dir, err := os.MkdirTemp("", "derpkit-tailnet-")
	if err != nil {
		return nil, err
	}
	t := &tailnet{dir: dir}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	logf := out.Logf(verbose)
	url := controlplane.Serve(t.ln, controlplane.Map(region), logf)
	for _, name := range nodeNames {
		n := &node{Server: &tsnet.Server{
			Dir: filepath.Join(dir, name), ControlURL: url, Hostname: name,
			Store: new(mem.Store), Ephemeral: true, Logf: logf, UserLogf: logf,
		}}
		t.nodes = append(t.nodes, n)
		status, err := n.Up(ctx)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", name, err)
		}
		n.ip, n.key = status.TailscaleIPs[0], status.Self.PublicKey
	}
	for _, n := range t.nodes {
		if err := n.awaitHome(ctx, region.RegionID); err != nil {
			return nil, err
		}
	}
	for i, n := range t.nodes {
		if err := n.awaitPeer(ctx, t.nodes[1-i], region.RegionCode); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// awaitPeer waits until the node was told of the other and of its home relay.
// What a stranger sends is dropped without a word.
func (n *node) awaitPeer(ctx context.Context, other *node, code string) error {
	lc, err := n.LocalClient()
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := lc.Status(ctx)
		if err != nil {
			return err
		}
		if p := st.Peer[other.key]; p != nil && p.Relay == code && p.InNetworkMap && p.InMagicSock {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s does not know node %s: %w", n.Hostname, other.Hostname, ctx.Err())
		case <-tick.C:
		}
	}
}

// awaitHome waits for the node's first frame from its home relay. Until then
// the relay does not know it, and the first packets to it would be lost and
// cost seconds.
func (n *node) awaitHome(ctx context.Context, region int) error {
	health, magic := n.Sys().HealthTracker.Get(), n.Sys().MagicSock.Get()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if r := magic.GetLastNetcheckReport(ctx); r != nil && r.PreferredDERP != 0 &&
			!health.GetDERPRegionReceivedTime(r.PreferredDERP).IsZero() {
			if r.PreferredDERP != region {
				return fmt.Errorf("home is region %d, want %d", r.PreferredDERP, region)
			}
			n.report = r
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s found no home relay: %w", n.Hostname, errors.Join(ctx.Err(), n.unhealthy()))
		case <-tick.C:
		}
	}
}

// unhealthy is what the node itself says is wrong with it.
func (n *node) unhealthy() error {
	lc, err := n.LocalClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := lc.StatusWithoutPeers(ctx)
	if err != nil {
		return err
	}
	var all []error
	for _, text := range st.Health {
		all = append(all, errors.New(text))
	}
	return errors.Join(all...)
}

func (t *tailnet) close() {
	for _, n := range t.nodes {
		// A node that did not come up cannot be closed; nothing to do then.
		_ = n.Close()
	}
	if t.ln != nil {
		_ = t.ln.Close()
	}
	_ = os.RemoveAll(t.dir)
}
