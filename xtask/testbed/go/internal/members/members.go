// Package members makes real nodes of tailnets, and gets at the keys that
// they use with relays.
package members

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/ipn"
	"tailscale.com/net/netns"
	"tailscale.com/tsnet"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// Prepare sets up this process for nodes; it must run before anything of theirs.
func Prepare() {
	for name, value := range map[string]string{
		"TS_DEBUG_NEVER_DIRECT_UDP":     "true",
		"TS_NO_LOGS_NO_SUPPORT":         "true",
		"TS_DISABLE_PORTMAPPER":         "true",
		"TS_ASSUME_NETWORK_UP_FOR_TEST": "true",
		"TS_PANIC_IF_HIT_MAIN_CONTROL":  "true",
	} {
		envknob.Setenv(name, value)
	}
	netns.SetEnabled(false)
}

// Node is a node of a tailnet in this process.
type Node struct {
	*tsnet.Server
	Name string
	// Private is the key that it proves itself with to relays.
	Private key.NodePrivate
}

// Options say how a node joins.
type Options struct {
	Dir        string // where the node has its folder
	Name       string
	ControlURL string
	AuthKey    string // empty where the control server wants none
	Logf       logger.Logf
}

// Join makes a node and waits until it is in the tailnet. It needs no relay.
func Join(ctx context.Context, o Options) (*Node, error) {
	dir := filepath.Join(o.Dir, o.Name)
	n := &Node{Name: o.Name, Server: &tsnet.Server{
		Dir: dir, ControlURL: o.ControlURL, Hostname: o.Name, AuthKey: o.AuthKey, Logf: o.Logf, UserLogf: o.Logf,
	}}
	// What has not started cannot be closed.
	if err := n.Start(); err != nil {
		return nil, fmt.Errorf("node %s: %w", o.Name, err)
	}
	status, err := n.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", o.Name, errors.Join(err, n.Close()))
	}
	if n.Private, err = DaemonKey(filepath.Join(dir, "tailscaled.state")); err != nil {
		return nil, fmt.Errorf("node %s: %w", o.Name, errors.Join(err, n.Close()))
	}
	if n.Private.Public() != status.Self.PublicKey {
		return nil, fmt.Errorf("node %s: its state has another key than its status", o.Name)
	}
	return n, nil
}

// Public is the node's public key.
func (n *Node) Public() key.NodePublic { return n.Private.Public() }

// DaemonKey is the key of a tailscaled, or of what behaves like one, from the
// file with its state.
func DaemonKey(stateFile string) (none key.NodePrivate, _ error) {
	text, err := os.ReadFile(stateFile)
	if err != nil {
		return none, err
	}
	var state map[ipn.StateKey][]byte
	if err := json.Unmarshal(text, &state); err != nil {
		return none, fmt.Errorf("%s: %w", stateFile, err)
	}
	var prefs ipn.Prefs
	current := ipn.StateKey(state[ipn.CurrentProfileStateKey])
	if err := ipn.PrefsFromBytes(state[current], &prefs); err != nil {
		return none, fmt.Errorf("%s: %w", stateFile, err)
	}
	if prefs.Persist == nil || prefs.Persist.PrivateNodeKey.IsZero() {
		return none, fmt.Errorf("%s: it has no node key", stateFile)
	}
	return prefs.Persist.PrivateNodeKey, nil
}

// AwaitHome waits for the node's first frame from a home relay. Until then the
// relay does not know it, and packets to it are lost.
func (n *Node) AwaitHome(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	health, magic := n.Sys().HealthTracker.Get(), n.Sys().MagicSock.Get()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if r := magic.GetLastNetcheckReport(ctx); r != nil && r.PreferredDERP != 0 &&
			!health.GetDERPRegionReceivedTime(r.PreferredDERP).IsZero() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s found no home relay: %w", n.Name, ctx.Err())
		case <-tick.C:
		}
	}
}
