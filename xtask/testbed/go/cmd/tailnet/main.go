// Command tailnet makes a tailnet of two nodes inside this process, with the
// relay under test as the only one in its DERP map and direct paths forbidden,
// and moves data from one node to the other.
//
// It prints one JSON line with what it measured and with the proof that the
// data went through the relay, and exits with status 1 if any of it failed.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/varz"
	"tailscale.com/envknob"
)

type report struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`

	Bytes    int64   `json:"bytes"`
	SHA256   string  `json:"sha256,omitempty"`
	Seconds  float64 `json:"seconds"`
	MbitPerS float64 `json:"mbit_per_s"`
	// UpSeconds is from the start of the nodes until both have a home relay.
	UpSeconds float64 `json:"up_seconds"`

	PathDelayMS float64 `json:"path_delay_ms"`
	PathRate    int64   `json:"path_rate"`

	WebSocket bool `json:"web_socket"`
	// WebSocketAccepts is how many the relay counted; with -no-varz it is 0.
	WebSocketAccepts int64 `json:"web_socket_accepts"`
	// RelayCode and CurAddr are what the sending node's status says about the
	// other; a direct path would have an address and no relay.
	RelayCode string `json:"relay_code"`
	CurAddr   string `json:"cur_addr"`
	// PingVia is the region code that a disco ping was answered through.
	PingVia      string  `json:"ping_via"`
	PingMS       float64 `json:"ping_ms"`
	PingAttempts int     `json:"ping_attempts"` // 1, unless packets got lost
	// STUNLatencyMS is the netcheck's latency to the region; UDP tells whether
	// it came from STUN.
	STUNLatencyMS float64 `json:"stun_latency_ms"`
	UDP           bool    `json:"udp"`
	// Flow is how far the relay's counters moved; absent with -no-varz.
	Flow *varz.Flow `json:"flow,omitempty"`
}

type options struct {
	relay    target.Target
	stunPort int
	bytes    int64
	delay    time.Duration
	rate     int64
	ws       bool
	noVarz   bool
	verbose  bool
}

func main() {
	var o options
	o.relay.AddFlags(flag.CommandLine)
	flag.IntVar(&o.stunPort, "stun-port", 0, "relay's STUN port; without it the nodes measure over HTTPS")
	flag.Int64Var(&o.bytes, "bytes", 16<<20, "how much to transfer")
	flag.DurationVar(&o.delay, "path-delay", 0, "how long what the relay sends takes to each node")
	flag.Int64Var(&o.rate, "path-rate", 0, "how many bytes a second pass from the relay to each node; 0 for any number")
	flag.BoolVar(&o.ws, "ws", false, "the nodes speak DERP over WebSocket")
	flag.BoolVar(&o.noVarz, "no-varz", false, "do not read the relay's counters")
	flag.BoolVar(&o.verbose, "v", false, "the nodes' logs on standard error")
	timeout := flag.Duration("timeout", 2*time.Minute, "for everything")
	flag.Parse()
	out.QuietLogs(o.verbose)

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The knobs must be set before anything of the nodes starts.
	for name, value := range map[string]string{
		"TS_DEBUG_NEVER_DIRECT_UDP":     "true",
		"TS_NO_LOGS_NO_SUPPORT":         "true",
		"TS_DISABLE_PORTMAPPER":         "true",
		"TS_ASSUME_NETWORK_UP_FOR_TEST": "true",
	} {
		envknob.Setenv(name, value)
	}
	if o.relay.CAFile != "" {
		// Nodes know no other way to trust an authority of one's own.
		os.Setenv("SSL_CERT_FILE", o.relay.CAFile)
	}

	r := report{Bytes: o.bytes, WebSocket: o.ws, PathRate: o.rate}
	r.PathDelayMS = float64(o.delay.Microseconds()) / 1000
	if err := run(ctx, &o, &r); err != nil {
		r.Error = err.Error()
		out.Line(r)
		os.Exit(1)
	}
	r.OK = true
	out.Line(r)
}
