package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"tailscale.com/tailcfg"
)

// source is where a relay learns who may use it.
type source interface {
	// set says whether a node is a member, from now on.
	set(ctx context.Context, n *members.Node, member bool) error
	// kill ends the source at once, and revive brings it back with what it knew.
	kill() error
	revive(ctx context.Context) error
}

// daemonSource is a tailscaled.
type daemonSource struct{ *tailnet }

func (s daemonSource) set(_ context.Context, n *members.Node, member bool) error {
	return s.tailnet.set(n.Name, member)
}

func (s daemonSource) kill() error { s.daemon.Kill(); return nil }

func (s daemonSource) revive(ctx context.Context) error { return s.startDaemon(ctx) }

// webSource is an HTTP server.
type webSource struct {
	addr   string
	server *http.Server
	handle func(w http.ResponseWriter, r *http.Request, members []string)

	mu   sync.Mutex
	keys []string
}

// apiKey is what a list of nodes is given for.
const apiKey = "abcdefg.0123456789abcdef"

// admissionURL is an admission controller that knows the protocol and no more.
func admissionURL() (*webSource, error) {
	return serveWeb(func(w http.ResponseWriter, r *http.Request, members []string) {
		var asked tailcfg.DERPAdmitClientRequest
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		allow := slices.Contains(members, asked.NodePublic.String())
		_ = json.NewEncoder(w).Encode(tailcfg.DERPAdmitClientResponse{Allow: allow})
	})
}

// headscale answers as a real server did, about other nodes.
func headscale(real *recorded) (*webSource, error) {
	return serveWeb(func(w http.ResponseWriter, r *http.Request, members []string) {
		switch r.Method + " " + r.URL.Path {
		case "POST /verify":
			var asked tailcfg.DERPAdmitClientRequest
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				real.exchanges["verify_not_json"].send(w)
			} else if slices.Contains(members, asked.NodePublic.String()) {
				real.exchanges["verify_laptop"].send(w)
			} else {
				real.exchanges["verify_stranger"].send(w)
			}
		case "GET /api/v1/node":
			if r.Header.Get("Authorization") != "Bearer "+apiKey {
				real.exchanges["nodes_wrong_key"].send(w)
			} else if list, err := real.list(members); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			} else {
				list.send(w)
			}
		default:
			http.NotFound(w, r)
		}
	})
}

func serveWeb(handle func(http.ResponseWriter, *http.Request, []string)) (*webSource, error) {
	s := &webSource{addr: "127.0.0.1:0", handle: handle}
	return s, s.revive(context.Background())
}

func (s *webSource) url() string { return "http://" + s.addr }

func (s *webSource) set(_ context.Context, n *members.Node, member bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = with(s.keys, n, member)
	return nil
}

func (s *webSource) kill() error { return s.server.Close() }

func (s *webSource) revive(context.Context) error {
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.addr = ln.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		keys := slices.Clone(s.keys)
		s.mu.Unlock()
		s.handle(w, r, keys)
	})}
	server := s.server
	// Ends with an error when the server is closed, which is how it is meant to end.
	go func() { _ = server.Serve(ln) }()
	return nil
}

// fileSource is a file with keys, one a line.
type fileSource struct {
	path string
	keys []string
	// denies turns it around: members are those who are not in it.
	denies bool
}

func (s *fileSource) set(_ context.Context, n *members.Node, member bool) error {
	s.keys = with(s.keys, n, member != s.denies)
	return s.revive(context.Background())
}

// kill spoils the file: what it said before counts.
func (s *fileSource) kill() error { return replace(s.path, "nodekey:0123\n") }

func (s *fileSource) revive(context.Context) error {
	return replace(s.path, "# made by a test\n"+strings.Join(append(s.keys, ""), "\n"))
}

// statusSource is what `tailscale status --json` prints, in a file.
type statusSource struct {
	*tailnet
	path string
}

func (s *statusSource) set(ctx context.Context, n *members.Node, member bool) error {
	if err := s.tailnet.set(n.Name, member); err != nil {
		return err
	}
	return s.revive(ctx)
}

func (s *statusSource) kill() error { return replace(s.path, "{\"Self\"") }

// revive writes the file anew, once the tailscaled sees whom it is to see.
func (s *statusSource) revive(ctx context.Context) error {
	return s.daemon.Await(ctx, func() error {
		text, err := s.cli(ctx, "status", "--json")
		if err != nil {
			return err
		}
		if err := s.isAsTold(text); err != nil {
			return err
		}
		return replace(s.path, text)
	})
}

// bothSource is two sources that must agree. A member may be taken out by
// either; which of them it is takes turns.
type bothSource struct {
	sources [2]source
	turn    int
}

func (s *bothSource) set(ctx context.Context, n *members.Node, member bool) error {
	if !member {
		s.turn++
		return s.sources[s.turn%2].set(ctx, n, false)
	}
	for _, one := range s.sources {
		if err := one.set(ctx, n, true); err != nil {
			return err
		}
	}
	return nil
}

func (s *bothSource) kill() error { return s.sources[0].kill() }

func (s *bothSource) revive(ctx context.Context) error { return s.sources[0].revive(ctx) }

func with(keys []string, n *members.Node, wanted bool) []string {
	key := n.Public().String()
	keys = slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == key })
	if wanted {
		keys = append(keys, key)
	}
	return keys
}

// replace exchanges a file's contents in one step, as careful tools do.
func replace(path, text string) error {
	next := filepath.Join(filepath.Dir(path), ".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
