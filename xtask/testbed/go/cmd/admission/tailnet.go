package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/controlplane"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
	"tailscale.com/client/local"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// tailnet is a control server with real nodes: those of tests, and a tailscaled
// as it stands beside a relay. What that one is told of the others is up to
// this, as it is up to a policy.
type tailnet struct {
	name    string
	dir     string
	bin     string
	ln      net.Listener
	control *testcontrol.Server
	logf    logger.Logf

	nodes  map[string]*members.Node
	hidden map[string]bool // nodes that the tailscaled does not see

	daemon    *programs.Program
	daemonKey key.NodePrivate
}

func newTailnet(name, dir, bin string, derpMap *tailcfg.DERPMap, logf logger.Logf) (*tailnet, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tailnet{
		name: name, dir: filepath.Join(dir, name), bin: bin, ln: ln, logf: logf,
		control: controlplane.Start(ln, derpMap, logf),
		nodes:   map[string]*members.Node{}, hidden: map[string]bool{},
	}
	return t, os.MkdirAll(t.dir, 0o700)
}

// closeControl takes the control server away from whoever is not connected to
// it, and openControl brings it back with what it knew.
func (t *tailnet) closeControl() { _ = t.ln.Close() }

func (t *tailnet) openControl() error {
	ln, err := net.Listen("tcp", t.ln.Addr().String())
	if err != nil {
		return err
	}
	t.ln = ln
	// Ends with an error when ln is closed, which is how it is meant to end.
	go func() { _ = http.Serve(ln, t.control) }()
	return nil
}

func (t *tailnet) close() {
	for _, n := range t.nodes {
		// What it has to say at its end is of no interest any more.
		_ = n.Close()
	}
	t.daemon.Stop()
	_ = t.ln.Close()
}

// node is the node of that name, which joins when it is first asked for.
func (t *tailnet) node(ctx context.Context, name string) (*members.Node, error) {
	if n := t.nodes[name]; n != nil {
		return n, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	n, err := members.Join(ctx, members.Options{
		Dir: t.dir, Name: name, ControlURL: t.control.BaseURL(), Logf: t.logf,
	})
	if err != nil {
		return nil, err
	}
	t.nodes[name] = n
	return n, t.tell()
}

// visible are the names of the nodes that are not hidden, in order.
func (t *tailnet) visible() []string {
	var names []string
	for name := range t.nodes {
		if !t.hidden[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// set says whether the tailscaled sees a node.
func (t *tailnet) set(name string, visible bool) error {
	t.hidden[name] = !visible
	return t.tell()
}

func (t *tailnet) state() string { return filepath.Join(t.dir, "tailscaled") }

func (t *tailnet) socket() string { return filepath.Join(t.dir, "tailscaled.sock") }

func (t *tailnet) stateOfDaemon(ctx context.Context) (string, error) {
	api := local.Client{Socket: t.socket(), UseSocketOnly: true}
	status, err := api.StatusWithoutPeers(ctx)
	if err != nil {
		return "", err
	}
	return status.BackendState, nil
}

// launchDaemon starts the tailscaled, and waits until it can be asked.
func (t *tailnet) launchDaemon(ctx context.Context) error {
	env := []string{
		"HOME=" + t.dir, "TS_LOGS_DIR=" + t.dir, "TS_NO_LOGS_NO_SUPPORT=true", "TS_DISABLE_PORTMAPPER=true",
		"TS_PANIC_IF_HIT_MAIN_CONTROL=true",
	}
	var err error
	t.daemon, err = programs.Start("tailscaled", t.dir, env, filepath.Join(t.bin, "tailscaled"),
		"-tun=userspace-networking", "-port=0", "-statedir="+t.state(), "-socket="+t.socket(), "-no-logs-no-support")
	if err != nil {
		return err
	}
	return t.daemon.Await(ctx, func() error { _, err := t.stateOfDaemon(ctx); return err })
}

// startDaemon starts the tailscaled, logs it in where it has not been, and
// waits until it has heard from its control server.
func (t *tailnet) startDaemon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := t.launchDaemon(ctx); err != nil {
		return err
	}
	if t.daemonKey.IsZero() {
		_, err := t.cli(ctx, "up", "--login-server="+t.control.BaseURL(), "--hostname=derp-"+t.name,
			"--accept-dns=false", "--timeout=20s")
		if err != nil {
			return err
		}
		if t.daemonKey, err = members.DaemonKey(filepath.Join(t.state(), "tailscaled.state")); err != nil {
			return err
		}
	}
	return t.awaitDaemon(ctx)
}

// awaitDaemon waits until the tailscaled has heard from its control server, and
// tells it what it may see.
func (t *tailnet) awaitDaemon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return t.daemon.Await(ctx, func() error {
		state, err := t.stateOfDaemon(ctx)
		if err == nil && state != "Running" {
			err = errors.New("its state is " + state)
		}
		return errors.Join(err, t.tell())
	})
}

// cli runs the tailscale command for the tailscaled.
func (t *tailnet) cli(ctx context.Context, args ...string) (string, error) {
	argv := append([]string{filepath.Join(t.bin, "tailscale"), "--socket=" + t.socket()}, args...)
	return programs.Output(ctx, nil, argv...)
}

// tell tells the tailscaled whom it may see, as a control server does when a
// node was added or removed, or a policy has changed.
func (t *tailnet) tell() error {
	if t.daemonKey.IsZero() {
		return nil
	}
	self := t.daemonKey.Public()
	response, err := t.control.MapResponse(&tailcfg.MapRequest{NodeKey: self, Version: tailcfg.CurrentCapabilityVersion})
	if err != nil {
		return err
	}
	var hidden []key.NodePublic
	for name := range t.hidden {
		if n := t.nodes[name]; n != nil && t.hidden[name] {
			hidden = append(hidden, n.Public())
		}
	}
	response.Peers = slices.DeleteFunc(response.Peers, func(p *tailcfg.Node) bool {
		if !slices.Contains(hidden, p.Key) {
			return false
		}
		// An empty list of peers says nothing, so they are named.
		response.PeersRemoved = append(response.PeersRemoved, p.ID)
		return true
	})
	if !t.control.AddRawMapResponse(self, response) {
		return fmt.Errorf("the tailscaled of %s does not listen to its control server", t.name)
	}
	return nil
}

// isAsTold says whether a status, as the command prints it, has exactly the
// nodes that the tailscaled was told of.
func (t *tailnet) isAsTold(statusJSON string) error {
	var status ipnstate.Status
	if err := json.Unmarshal([]byte(statusJSON), &status); err != nil {
		return err
	}
	for name, n := range t.nodes {
		if _, seen := status.Peer[n.Public()]; seen == t.hidden[name] {
			return fmt.Errorf("its status is not up to date about %s", name)
		}
	}
	return nil
}
