package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/client/local"
	"tailscale.com/ipn/ipnstate"
)

const socksAddr = "127.0.0.1:1055"

// node is a real tailscaled in its own namespace.
type node struct {
	ns, name, socket string
	proc             *programs.Program
	api              *local.Client
	status           *ipnstate.Status // when it was last seen ready
}

// startNode starts a daemon. Its network is in user space, so the only thing
// it can reach others through is what is in its namespace.
func (t *testbed) startNode(ctx context.Context, ns, name string) (*node, error) {
	dir := filepath.Join(t.dir, "node-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	n := &node{ns: ns, name: name, socket: filepath.Join(dir, "s.sock")}
	n.api = &local.Client{Socket: n.socket, UseSocketOnly: true}
	env := []string{
		"HOME=" + dir, "TS_LOGS_DIR=" + dir, "TS_NO_LOGS_NO_SUPPORT=true", "TS_DISABLE_PORTMAPPER=true",
		"TS_PANIC_IF_HIT_MAIN_CONTROL=true",
	}
	if t.caFile != "" {
		env = append(env, "SSL_CERT_FILE="+t.caFile)
	}
	var err error
	n.proc, err = startIn(ns, "node-"+name, t.dir, append(env, t.nodeEnv...), filepath.Join(t.bin, "tailscaled"),
		"-tun=userspace-networking", "-statedir="+dir, "-socket="+n.socket, "-socks5-server="+socksAddr, "-no-logs-no-support")
	if err != nil {
		return nil, err
	}
	return n, n.proc.Await(ctx, func() error {
		_, err := n.api.StatusWithoutPeers(ctx)
		return err
	})
}

// cli runs the tailscale command for this node.
func (t *testbed) cli(ctx context.Context, n *node, args ...string) (string, error) {
	return output(ctx, n.ns, append([]string{filepath.Join(t.bin, "tailscale"), "--socket=" + n.socket}, args...)...)
}

// up logs the node in.
func (t *testbed) up(ctx context.Context, n *node) error {
	_, err := t.cli(ctx, n, "up", "--login-server="+t.controlURL, "--hostname="+n.name,
		"--accept-dns=false", "--accept-routes=false", "--timeout=30s")
	return err
}

// awaitPeer waits until the node runs, has the relay as its home, and knows one
// other node that has too.
func (t *testbed) awaitPeer(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return n.proc.Await(ctx, func() error {
		st, err := n.api.Status(ctx)
		if err != nil {
			return err
		}
		n.status = st
		if st.BackendState != "Running" || st.Self.Relay != target.RegionCode {
			return fmt.Errorf("state %s, home relay %q, health %q", st.BackendState, st.Self.Relay, st.Health)
		}
		for _, p := range st.Peer {
			if p.Relay == target.RegionCode && p.Online {
				return nil
			}
		}
		return fmt.Errorf("no peer with a home relay among %d", len(st.Peer))
	})
}

// peerOf is the one peer that the node knows.
func peerOf(st *ipnstate.Status) (*ipnstate.PeerStatus, error) {
	if len(st.Peer) != 1 {
		return nil, fmt.Errorf("%d peers, want one", len(st.Peer))
	}
	for _, p := range st.Peer {
		return p, nil
	}
	panic("unreachable")
}
