package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"tailscale.com/types/logger"
)

// narrowPolicy lets each user reach its own nodes, and tags what is asked for.
const narrowPolicy = `{
  "tagOwners": {"tag:relay": ["ann@"]},
  "acls": [
    {"action": "accept", "src": ["ann@"], "dst": ["ann@:*"]},
    {"action": "accept", "src": ["derp@"], "dst": ["derp@:*"]}
  ]
}`

// tryPolicies has a relay's node, a user's node and a tagged one, and looks
// whom the first sees: by a policy that forgets it, and by the one that
// private-relay.md recommends.
func tryPolicies(ctx context.Context, program, docs string, logf logger.Logf) error {
	page, err := os.ReadFile(filepath.Join(docs, "private-relay.md"))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	recommended, _, found := strings.Cut(rest, "```")
	if !found {
		return fmt.Errorf("private-relay.md has no policy")
	}
	// The server knows a tag only where somebody owns it.
	recommended = strings.Replace(recommended, "{", `{"tagOwners": {"tag:relay": ["ann@"]},`, 1)
	for _, try := range []struct {
		name, policy string
		want         []string
	}{
		{"a policy that forgets the relay", narrowPolicy, nil},
		{"the guide's policy", recommended, []string{"gateway", "laptop"}},
	} {
		seen, err := seenByRelay(ctx, program, try.policy, try.want, logf)
		if err != nil {
			return fmt.Errorf("%s: %w", try.name, err)
		}
		out.Line(map[string]any{"policy": try.name, "seen": seen, "ok": true})
	}
	return nil
}

func seenByRelay(ctx context.Context, program, policy string, want []string, logf logger.Logf) ([]string, error) {
	dir, err := os.MkdirTemp("", "derpkit-headscale-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := startServer(ctx, program, dir, nowhere, policy, logf)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	for _, n := range []struct {
		name, user string
		flags      []string
	}{{"laptop", "ann", nil}, {"gateway", "ann", []string{"--tags", "tag:relay"}}} {
		joined, err := s.join(ctx, n.name, n.user, n.flags...)
		if err != nil {
			return nil, err
		}
		defer joined.Close()
	}
	relay, err := s.join(ctx, "derp-1", "derp")
	if err != nil {
		return nil, err
	}
	defer relay.Close()
	var seen []string
	// What it is told first is all that there is to see.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if seen, err = peersOf(ctx, relay); err != nil || len(seen) > 0 || len(want) == 0 {
			break
		}
	}
	if err == nil && !slices.Equal(seen, want) {
		err = fmt.Errorf("the relay's node sees %q, want %q", seen, want)
	}
	return seen, err
}

func peersOf(ctx context.Context, n *members.Node) ([]string, error) {
	lc, err := n.LocalClient()
	if err != nil {
		return nil, err
	}
	status, err := lc.Status(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, peer := range status.Peer {
		names = append(names, peer.HostName)
	}
	slices.Sort(names)
	return names, nil
}
