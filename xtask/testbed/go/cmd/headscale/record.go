package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/recording"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// nowhere is a map with a relay that does not exist: a server wants one.
const nowhere = `regions:
  900:
    regionid: 900
    regioncode: test
    regionname: Test
    nodes:
      - {name: 900a, regionid: 900, hostname: 127.0.0.1, ipv4: 127.0.0.1, derpport: 1, stunport: -1}
`

// record joins nodes of every kind to a server, and asks it about them.
func record(ctx context.Context, program, version, file string, logf logger.Logf) error {
	dir, err := os.MkdirTemp("", "derpkit-headscale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := startServer(ctx, program, dir, nowhere, openPolicy, logf)
	if err != nil {
		return err
	}
	defer s.stop()
	r := &recorder{s, recording.Recording{
		Server:     "headscale " + version,
		RecordedBy: "xtask/testbed/go/cmd/headscale record",
	}}
	if err := r.get(ctx, "nodes_none", "/api/v1/node", s.apiKey); err != nil {
		return err
	}

	nodes := map[string]*members.Node{}
	defer func() {
		for _, n := range nodes {
			// What it has to say at its end is of no interest any more.
			_ = n.Close()
		}
	}()
	for _, n := range []struct {
		name, user string
		flags      []string
	}{
		{"laptop", "ann", nil},
		{"phone", "ben", nil},
		{"runner", "ann", []string{"--ephemeral"}},
		{"gateway", "ann", []string{"--tags", "tag:relay"}},
		{"tagged-later", "ben", nil},
		{"deleted", "ben", nil},
	} {
		if nodes[n.name], err = s.join(ctx, n.name, n.user, n.flags...); err != nil {
			delete(nodes, n.name)
			return err
		}
	}
	if err := s.change(ctx, nodes["tagged-later"], "nodes", "tag", "--tags", "tag:server"); err != nil {
		return err
	}
	if err := s.change(ctx, nodes["phone"], "nodes", "expire"); err != nil {
		return err
	}
	if err := r.get(ctx, "nodes_before_delete", "/api/v1/node", s.apiKey); err != nil {
		return err
	}
	if err := s.change(ctx, nodes["deleted"], "nodes", "delete", "--force"); err != nil {
		return err
	}

	keys := map[string]string{"stranger": key.NewNode().Public().String()}
	for name, n := range nodes {
		keys[name] = n.Public().String()
	}
	for _, name := range []string{"laptop", "phone", "runner", "gateway", "tagged-later", "deleted", "stranger"} {
		body := fmt.Sprintf(`{"NodePublic":%q,"Source":"192.0.2.7"}`, keys[name])
		if err := r.verify(ctx, "verify_"+name, body); err != nil {
			return err
		}
	}
	if err := errors.Join(
		r.verify(ctx, "verify_not_json", "hello"),
		r.verify(ctx, "verify_bad_key", `{"NodePublic":"nodekey:00","Source":"192.0.2.7"}`),
		r.verify(ctx, "verify_too_long", `{"NodePublic":"`+strings.Repeat("x", 4096)+`"}`),
		r.get(ctx, "verify_by_get", "/verify", ""),
		r.get(ctx, "nodes", "/api/v1/node", s.apiKey),
		r.get(ctx, "nodes_of_ann", "/api/v1/node?user=ann", s.apiKey),
		r.get(ctx, "nodes_wrong_key", "/api/v1/node", "wrong.key"),
		r.get(ctx, "nodes_without_key", "/api/v1/node", ""),
	); err != nil {
		return err
	}
	r.Nodes = keys
	return r.Write(file)
}

// change runs a command about one node.
func (s *server) change(ctx context.Context, n *members.Node, args ...string) error {
	id, err := s.id(ctx, n)
	if err != nil {
		return err
	}
	_, err = s.cli(ctx, append(args, "--identifier", id)...)
	return err
}
