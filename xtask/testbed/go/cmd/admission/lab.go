package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/controlplane"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/gate"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// lab is what all cases share: the programs, and a tailnet of real nodes a, b,
// c and d.
type lab struct {
	relay      string // program
	bin        string // folder of tailscale and tailscaled
	recordings string // folder
	docs       string // folder
	goRelay    bool   // the program is Go's: it knows Go's flags only
	logf       logger.Logf

	dir  string
	home target.Target // where the nodes' DERP map says that the relay is
	stun int
	net  *tailnet
	runs int
}

func openLab(ctx context.Context, l *lab) (err error) {
	if l.dir, err = os.MkdirTemp("", "derpkit-admission-"); err != nil {
		return err
	}
	port, err := programs.FreePort()
	if err != nil {
		return err
	}
	if l.stun, err = programs.FreePort(); err != nil {
		return err
	}
	l.home = target.Target{Host: "127.0.0.1", Port: port, Insecure: true}
	if l.net, err = l.tailnet("first"); err != nil {
		return err
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if _, err := l.net.node(ctx, name); err != nil {
			return err
		}
	}
	return l.net.startDaemon(ctx)
}

func (l *lab) tailnet(name string) (*tailnet, error) {
	derpMap := controlplane.Map(l.home.Region(l.stun))
	return newTailnet(name, l.dir, l.bin, derpMap, l.logf)
}

func (l *lab) close() {
	if l.net != nil {
		l.net.close()
	}
	_ = os.RemoveAll(l.dir)
}

func (l *lab) node(name string) *members.Node { return l.net.nodes[name] }

// stage is a relay that runs, and who is connected to it.
type stage struct {
	*lab
	dir     string
	target  target.Target
	program *programs.Program
	inside  map[string]*gate.Client
}

// run starts the relay under test somewhere else than at home.
func (l *lab) run(ctx context.Context, flags ...string) (*stage, error) {
	port, err := programs.FreePort()
	if err != nil {
		return nil, err
	}
	return l.runAt(ctx, port, flags...)
}

func (l *lab) runAt(ctx context.Context, port int, flags ...string) (*stage, error) {
	dir, err := l.folder()
	if err != nil {
		return nil, err
	}
	// The same file in every run, so that clients could tell relays apart by their keys if they cared.
	base := []string{
		"-hostname=127.0.0.1", "-certmode=manual", "-certdir=" + filepath.Join(dir, "certs"),
		"-c=" + filepath.Join(dir, "derper.key"), "-a=127.0.0.1:" + strconv.Itoa(port),
		"-stun-port=" + strconv.Itoa(l.stun), "-http-port=-1",
	}
	return l.launch(ctx, dir, port, append(base, flags...))
}

// folder is a new one for a relay's files.
func (l *lab) folder() (string, error) {
	l.runs++
	dir := filepath.Join(l.dir, "relay-"+strconv.Itoa(l.runs))
	return dir, os.Mkdir(dir, 0o700)
}

func (l *lab) launch(ctx context.Context, dir string, port int, flags []string) (*stage, error) {
	s := &stage{
		lab: l, dir: dir, inside: map[string]*gate.Client{},
		target: target.Target{Host: "127.0.0.1", Port: port, Insecure: true},
	}
	var err error
	s.program, err = programs.Start("relay", dir, nil, append([]string{l.relay}, flags...)...)
	if err != nil {
		return nil, err
	}
	if err := s.program.AwaitListener(ctx, "tcp", s.target.DialAddr()); err != nil {
		s.program.Stop()
		return nil, err
	}
	return s, nil
}

func (s *stage) close() {
	for _, c := range s.inside {
		c.Leave()
	}
	s.program.Stop()
}

// enter connects with a node's key, beside whatever the node itself does.
func (s *stage) enter(ctx context.Context, n *members.Node) error {
	c, err := gate.Enter(ctx, &s.target, n.Private)
	if err != nil {
		return err
	}
	s.inside[n.Name] = c
	return nil
}

// enterWithin connects as soon as the relay lets it, and returns after how long
// that was.
func (s *stage) enterWithin(ctx context.Context, n *members.Node, limit time.Duration) (time.Duration, error) {
	start := time.Now()
	for {
		err := s.enter(ctx, n)
		took := time.Since(start)
		if err == nil {
			return took, nil
		}
		if took > limit {
			return took, fmt.Errorf("%s is out after %v: %w", n.Name, took, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *stage) leave(n *members.Node) {
	s.inside[n.Name].Leave()
	delete(s.inside, n.Name)
}

// isOut wants a key to be turned away.
func (s *stage) isOut(ctx context.Context, who string, priv key.NodePrivate) error {
	c, err := gate.Enter(ctx, &s.target, priv)
	if err != nil {
		return nil
	}
	c.Leave()
	return fmt.Errorf("%s was admitted", who)
}

// stay wants clients to be connected still.
func (s *stage) stay(ctx context.Context, nodes ...*members.Node) error {
	var all []error
	for _, n := range nodes {
		if err := s.inside[n.Name].Alive(ctx); err != nil {
			all = append(all, fmt.Errorf("%s: %w", n.Name, err))
		}
	}
	return errors.Join(all...)
}
