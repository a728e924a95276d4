// Command e2e lets two real tailscaled daemons talk through the relay under
// test, each in a network namespace of its own with no way to the other but the
// relay. It needs root, the ip command, and Go's tailscale and tailscaled.
//
// It prints one JSON line and exits with status 1 if anything in it is wrong.
// It cleans up after itself however it ends, except by SIGKILL; then its
// processes die with it and the next run removes the namespaces.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/varz"
	"tailscale.com/ipn/ipnstate"
)

type report struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	// Step is the one that was being done, when something went wrong.
	Step    string            `json:"step,omitempty"`
	Logs    map[string]string `json:"logs,omitempty"` // last lines, on failure
	Relay   string            `json:"relay"`          // its command
	Seconds float64           `json:"seconds"`
	Ping    struct {
		Via    string   `json:"via"`
		LastMS float64  `json:"last_ms"`
		Output []string `json:"output"`
	} `json:"ping"`
	Netcheck struct {
		UDP       bool    `json:"udp"`
		Preferred int     `json:"preferred"`
		LatencyMS float64 `json:"latency_ms"`
		GlobalV4  string  `json:"global_v4"`
	} `json:"netcheck"`
	DebugDERP *ipnstate.DebugDERPRegionReport `json:"debug_derp"`
	Transfer  struct {
		Bytes               int64     `json:"bytes"`
		SHA256              string    `json:"sha256"`
		Seconds             float64   `json:"seconds"`
		MbitPerS            float64   `json:"mbit_per_s"`
		RelayCPUSeconds     float64   `json:"relay_cpu_seconds"`
		RelayCPUTickSeconds float64   `json:"relay_cpu_tick_seconds"`
		RelayRSSKiB         int64     `json:"relay_rss_kib"`
		Before              varz.Flow `json:"before"`
		After               varz.Flow `json:"after"`
		Grown               varz.Flow `json:"grown"`
	} `json:"transfer"`
	Path struct {
		CurAddr string `json:"cur_addr"`
		Relay   string `json:"relay"`
	} `json:"path"`
}

// testbed is everything that runs.
type testbed struct {
	relayCmd, bin, host, caFile string
	nodeEnv                     []string
	bytes                       int64
	keep                        bool

	dir            string
	ns             namespaces
	target         target.Target
	controlURL     string
	relay, control *programs.Program
	a, b           *node
}

func main() {
	var t testbed
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	flag.StringVar(&t.relayCmd, "relay-cmd", defaultRelay,
		"the relay's command, with {bin} {dir} {ip} {host} {port} {stun_port} {http_port}; split at spaces, no shell")
	flag.StringVar(&t.bin, "bin", filepath.Join(home, "go/bin"), "folder with tailscale, tailscaled and, for the default relay, derper")
	flag.StringVar(&t.host, "relay-host", "", "a name for the relay; without it the relay is known by address")
	flag.StringVar(&t.caFile, "ca", "", "PEM file with the roots to trust; without it the certificate is pinned")
	flag.Int64Var(&t.bytes, "bytes", 100_000_000, "size of the file")
	flag.BoolVar(&t.keep, "keep", false, "keep the folder with logs and state, and say where it is")
	flag.Func("node-env", "NAME=VALUE for the daemons; may be repeated", func(s string) error {
		t.nodeEnv = append(t.nodeEnv, s)
		return nil
	})
	timeout := flag.Duration("timeout", 3*time.Minute, "for everything but the cleaning up")
	verbose := flag.Bool("v", false, "say on standard error what is being done")
	flag.Parse()
	out.QuietLogs(*verbose)

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r := report{Relay: t.relayCmd}
	start := time.Now()
	err = t.run(ctx, &r, out.Logf(*verbose))
	r.Seconds = time.Since(start).Seconds()
	if err != nil {
		r.Error = err.Error()
		r.Logs = t.logs()
	}
	if e := t.close(); e != nil && err == nil {
		r.Step, r.Error, err = "clean up", e.Error(), e
	}
	r.OK = err == nil
	out.Line(r)
	if err != nil {
		os.Exit(1)
	}
}

// run makes the testbed and does the checks, one after the other.
func (t *testbed) run(ctx context.Context, r *report, logf func(string, ...any)) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("network namespaces need root")
	}
	if t.dir, err = os.MkdirTemp("", dirOf(os.Getpid())); err != nil {
		return err
	}
	// The relay may run as another user than this one, some day.
	if err := os.Chmod(t.dir, 0o755); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"make the namespaces", func() (err error) { t.ns, err = makeNamespaces(ctx, t.host); return err }},
		{"start the relay", func() error { return t.startRelay(ctx) }},
		{"start the control server", func() error { return t.startControl(ctx) }},
		{"start node a", func() (err error) { t.a, err = t.startNode(ctx, t.ns.a, "a"); return err }},
		{"start node b", func() (err error) { t.b, err = t.startNode(ctx, t.ns.b, "b"); return err }},
		{"log node a in", func() error { return t.up(ctx, t.a) }},
		{"log node b in", func() error { return t.up(ctx, t.b) }},
		{"wait for node a", func() error { return t.awaitPeer(ctx, t.a) }},
		{"wait for node b", func() error { return t.awaitPeer(ctx, t.b) }},
		{"ping", func() error { return t.ping(ctx, r) }},
		{"netcheck", func() error { return t.netcheck(ctx, r) }},
		{"debug derp", func() error { return t.debugDERP(ctx, r) }},
		{"transfer", func() error { return t.transfer(ctx, r) }},
		{"path", func() error { return t.path(ctx, r) }},
	} {
		logf("%s", step.name)
		r.Step = step.name
		if err := step.do(); err != nil {
			return err
		}
	}
	r.Step = ""
	return nil
}

func (t *testbed) processes() []*programs.Program {
	var all []*programs.Program
	for _, n := range []*node{t.a, t.b} {
		if n != nil && n.proc != nil {
			all = append(all, n.proc)
		}
	}
	for _, p := range []*programs.Program{t.control, t.relay} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (t *testbed) logs() map[string]string {
	logs := map[string]string{}
	for _, p := range t.processes() {
		logs[p.Name()] = p.Tail()
	}
	return logs
}

// close stops everything, clients first, and removes every trace.
func (t *testbed) close() error {
	for _, p := range t.processes() {
		p.Stop()
	}
	if t.keep && t.dir != "" {
		fmt.Fprintln(os.Stderr, "kept", t.dir)
	} else if t.dir != "" {
		defer func() { _ = os.RemoveAll(t.dir) }()
	}
	return t.ns.remove()
}
