package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/gate"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// interval is how often the relay asks again about connected clients.
const interval = 2 * time.Second

// relayBeside runs our relay as the only one of a server's nodes, verified by
// that server: by its list of nodes, and then by its /verify.
func relayBeside(ctx context.Context, headscale, relay string, logf logger.Logf) error {
	for _, byList := range []bool{true, false} {
		name := "/verify"
		if byList {
			name = "list of nodes"
		}
		if err := oneRelay(ctx, headscale, relay, byList, logf); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out.Line(map[string]any{"verified_by": name, "ok": true})
	}
	return nil
}

func oneRelay(ctx context.Context, headscale, relay string, byList bool, logf logger.Logf) error {
	dir, err := os.MkdirTemp("", "derpkit-headscale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	port, err := programs.FreePort()
	if err != nil {
		return err
	}
	stunPort, err := programs.FreePort()
	if err != nil {
		return err
	}
	flags := []string{
		"--hostname=127.0.0.1", "--certmode=manual", "--certdir=" + filepath.Join(dir, "certs"),
		"-c=" + filepath.Join(dir, "derper.key"), "-a=127.0.0.1:" + strconv.Itoa(port),
		"--stun-port=" + strconv.Itoa(stunPort), "--http-port=-1",
	}
	// What the relay says is to be pasted is what the server is given, and
	// therewith the certificate that nodes are to expect, which the relay makes
	// when it first starts.
	addr := "127.0.0.1:" + strconv.Itoa(port)
	once, err := programs.Start("derper", dir, nil, append([]string{relay}, flags...)...)
	if err != nil {
		return err
	}
	err = once.AwaitListener(ctx, "tcp", addr)
	once.Stop()
	if err != nil {
		return err
	}
	derpMap, err := programs.Output(ctx, nil, append([]string{relay, "derpmap", "headscale"}, flags...)...)
	if err != nil {
		return err
	}
	s, err := startServer(ctx, headscale, dir, derpMap, openPolicy, logf)
	if err != nil {
		return err
	}
	defer s.stop()
	flags = append(flags, "--verify-headscale="+s.url(), "--verify-interval="+interval.String(), "--require-verification")
	if byList {
		file := filepath.Join(dir, "api.key")
		if err := os.WriteFile(file, []byte(s.apiKey+"\n"), 0o600); err != nil {
			return err
		}
		flags = append(flags, "--verify-headscale-api-key-file="+file)
	}
	proc, err := programs.Start("derper", dir, nil, append([]string{relay}, flags...)...)
	if err != nil {
		return err
	}
	defer proc.Stop()
	if err := proc.AwaitListener(ctx, "tcp", addr); err != nil {
		return err
	}
	if err := comeAndGo(ctx, s, &target.Target{Host: "127.0.0.1", Port: port, Insecure: true}); err != nil {
		return fmt.Errorf("%w; the relay's log:\n%s", err, proc.Log())
	}
	return nil
}

// comeAndGo has two nodes talk through the relay, a stranger refused, and a
// node that is deleted cut off.
func comeAndGo(ctx context.Context, s *server, relay *target.Target) error {
	a, err := s.join(ctx, "a", "ann")
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := s.join(ctx, "b", "ben")
	if err != nil {
		return err
	}
	defer b.Close()
	for _, n := range []*members.Node{a, b} {
		if err := n.AwaitHome(ctx); err != nil {
			return err
		}
	}
	if err := pingThroughRelay(ctx, a, b); err != nil {
		return err
	}
	if _, err := gate.Enter(ctx, relay, key.NewNode()); err == nil {
		return errors.New("a stranger was admitted")
	}

	// A third one connects as nodes do; its own node must not take its place.
	c, err := s.join(ctx, "c", "ben")
	if err != nil {
		return err
	}
	id, err := s.id(ctx, c)
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}
	conn, err := gate.Enter(ctx, relay, c.Private)
	if err != nil {
		return fmt.Errorf("a node that had just joined: %w", err)
	}
	if _, err := s.cli(ctx, "nodes", "delete", "--force", "--identifier", id); err != nil {
		return err
	}
	deleted := time.Now()
	select {
	case <-conn.Gone():
	case <-time.After(interval + 15*time.Second):
		return errors.New("a node that was deleted is still connected")
	}
	out.Line(map[string]any{"deleted_node_gone_after_ms": time.Since(deleted).Milliseconds()})
	if _, err := gate.Enter(ctx, relay, c.Private); err == nil {
		return errors.New("a node that was deleted came back")
	}
	return pingThroughRelay(ctx, a, b)
}

func pingThroughRelay(ctx context.Context, a, b *members.Node) error {
	lc, err := a.LocalClient()
	if err != nil {
		return err
	}
	ip, _ := b.TailscaleIPs()
	for range 5 { // a packet may be lost, and is not sent again
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		res, pingErr := lc.Ping(once, ip, tailcfg.PingDisco)
		cancel()
		if err = pingErr; err != nil {
			continue
		}
		if res.Err != "" || res.Endpoint != "" || res.DERPRegionID == 0 {
			return fmt.Errorf("ping: %s, by %q, region %d", res.Err, res.Endpoint, res.DERPRegionID)
		}
		out.Line(map[string]any{"ping_by_region": strings.TrimSpace(res.DERPRegionCode), "ms": res.LatencySeconds * 1000})
		return nil
	}
	return fmt.Errorf("ping: %w", err)
}
