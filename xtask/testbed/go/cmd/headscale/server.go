package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
	"tailscale.com/types/logger"
)

// config has what a server must be told besides its defaults. It speaks to this
// machine only: no public relays, no look for updates, no logs sent anywhere.
var config = template.Must(template.New("config").Parse(`
server_url: http://{{.Addr}}
listen_addr: {{.Addr}}
metrics_listen_addr: 127.0.0.1:0
grpc_listen_addr: 127.0.0.1:0
noise:
  private_key_path: {{.Dir}}/noise.key
prefixes:
  v4: 100.64.0.0/10
  v6: fd7a:115c:a1e0::/48
  allocation: sequential
derp:
  server:
    enabled: false
  urls: []
  paths: [ {{.Dir}}/derp.yaml ]
  auto_update_enabled: false
disable_check_updates: true
database:
  type: sqlite
  sqlite:
    path: {{.Dir}}/db.sqlite
log:
  level: info
policy:
  mode: file
  path: {{.Dir}}/policy.json
dns:
  magic_dns: false
  override_local_dns: false
  base_domain: tailnet.test
logtail:
  enabled: false
unix_socket: {{.Dir}}/headscale.sock
unix_socket_permission: "0770"
`))

// openPolicy lets everybody reach everybody.
const openPolicy = `{
  "tagOwners": {"tag:relay": ["ann@"], "tag:server": ["ben@"]},
  "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]
}`

// server is a Headscale server with the users ann, ben and derp.
type server struct {
	program, dir, addr string
	proc               *programs.Program
	users              map[string]string // name to id
	apiKey             string
	authKeys           []string // that nodes joined with
	logf               logger.Logf
}

// startServer starts a server in a new folder below dir. derpMap is what nodes
// are told of relays, in Headscale's YAML.
func startServer(ctx context.Context, program, dir, derpMap, policy string, logf logger.Logf) (_ *server, err error) {
	port, err := programs.FreePort()
	if err != nil {
		return nil, err
	}
	s := &server{program: program, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", port), users: map[string]string{}, logf: logf}
	var text strings.Builder
	if err := config.Execute(&text, struct{ Dir, Addr string }{dir, s.addr}); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"config.yaml": text.String(), "policy.json": policy, "derp.yaml": derpMap} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if s.proc, err = programs.Start("headscale", dir, nil, program, "-c", s.configFile(), "serve"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := s.proc.AwaitListener(ctx, "tcp", s.addr); err != nil {
		return nil, err
	}
	if err := s.proc.AwaitListener(ctx, "unix", filepath.Join(dir, "headscale.sock")); err != nil {
		return nil, err
	}
	for _, user := range []string{"ann", "ben", "derp"} {
		var made struct {
			ID json.RawMessage `json:"id"`
		}
		if err := s.cliJSON(ctx, &made, "users", "create", user, "--email", user+"@tailnet.test"); err != nil {
			return nil, err
		}
		s.users[user] = strings.Trim(string(made.ID), `"`)
	}
	if s.apiKey, err = s.cli(ctx, "apikeys", "create"); err != nil {
		return nil, err
	}
	s.apiKey = lastLine(s.apiKey)
	return s, nil
}

func (s *server) configFile() string { return filepath.Join(s.dir, "config.yaml") }

func (s *server) url() string { return "http://" + s.addr }

func (s *server) stop() { s.proc.Stop() }

// cli runs the server's program as an administrator does.
func (s *server) cli(ctx context.Context, args ...string) (string, error) {
	argv := append([]string{s.program, "-c", s.configFile()}, args...)
	out, err := programs.Output(ctx, nil, argv...)
	return strings.TrimSpace(out), err
}

func (s *server) cliJSON(ctx context.Context, into any, args ...string) error {
	out, err := s.cli(ctx, append(args, "--output", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("%v printed %q: %w", args, out, err)
	}
	return nil
}

// join makes a node of a user's, with the flags of `preauthkeys create`.
func (s *server) join(ctx context.Context, name, user string, flags ...string) (*members.Node, error) {
	args := append([]string{"preauthkeys", "create", "--user", s.users[user]}, flags...)
	key, err := s.cli(ctx, args...)
	if err != nil {
		return nil, err
	}
	key = lastLine(key)
	s.authKeys = append(s.authKeys, key)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return members.Join(ctx, members.Options{
		Dir: s.dir, Name: name, ControlURL: s.url(), AuthKey: key, Logf: s.logf,
	})
}

// id is the number that the server knows a node by.
func (s *server) id(ctx context.Context, n *members.Node) (string, error) {
	var listed []map[string]any
	if err := s.cliJSON(ctx, &listed, "nodes", "list"); err != nil {
		return "", err
	}
	for _, node := range listed {
		for _, field := range []string{"node_key", "nodeKey"} {
			if node[field] == n.Public().String() {
				return fmt.Sprint(node["id"]), nil
			}
		}
	}
	return "", errors.New("the server does not list node " + n.Name)
}

func lastLine(text string) string {
	lines := strings.Split(text, "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
