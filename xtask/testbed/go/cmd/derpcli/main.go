// Command derpcli drives one of Go's DERP clients from outside: commands come
// in as JSON lines, everything that happens goes out as JSON lines.
//
// The first line out tells the client's own key, the second that it is
// connected. Received messages are written as they arrive, in order, between
// the answers to commands. End of input ends the program.
//
// It does not reconnect: when the connection breaks it says so with a "closed"
// line and exits with status 1 unless -expect-close was given.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/types/key"
)

type event struct {
	Event string `json:"event"`
	// key, connected
	Public string `json:"public,omitempty"`
	Server string `json:"server,omitempty"`
	TLS    string `json:"tls,omitempty"`
	// FastStart tells whether the client skipped the server's greeting.
	FastStart *bool `json:"fast_start,omitempty"`
	// done
	Cmd   string `json:"cmd,omitempty"`
	ID    string `json:"id,omitempty"`
	OK    *bool  `json:"ok,omitempty"`
	Error string `json:"error,omitempty"`
	MS    int64  `json:"ms,omitempty"`
}

var (
	relay       target.Target
	webSocket   = flag.Bool("ws", false, "speak DERP over WebSocket")
	useURL      = flag.Bool("url-mode", false, "connect like a mesh node (by URL), not like tailscaled (by region)")
	mesh        = flag.Bool("mesh", false, "present the mesh key")
	watch       = flag.Bool("watch", false, "subscribe to membership when connecting")
	prober      = flag.Bool("prober", false, "say that this is a prober")
	ideal       = flag.Bool("ideal-node", false, "say that another node of the region would have been better")
	tls12       = flag.Bool("tls12", false, "offer no TLS 1.3, therefore no fast start")
	preferred   = flag.Bool("preferred", false, "say at login that this is the home relay")
	privText    = flag.String("private-key", "", "privkey:HEX to use instead of a new key")
	wantFast    = flag.String("fast-start", "", "fail unless the client's start was fast: yes or no")
	dataLimit   = flag.Int("hex-limit", 256, "write packets up to this many bytes in hex; of larger ones only size and hash")
	expectClose = flag.Bool("expect-close", false, "a connection closed by the server is success")
	timeout     = flag.Duration("connect-timeout", 10*time.Second, "for connecting")
	verbose     = flag.Bool("v", false, "the client's logs on standard error")
)

func main() {
	relay.AddFlags(flag.CommandLine)
	flag.Parse()
	out.QuietLogs(*verbose)
	if err := run(); err != nil {
		out.Line(event{Event: "failed", Error: err.Error()})
		os.Exit(1)
	}
}

func run() error {
	if err := relay.Resolve(); err != nil {
		return err
	}
	priv := key.NewNode()
	if *privText != "" {
		if err := priv.UnmarshalText([]byte(*privText)); err != nil {
			return fmt.Errorf("-private-key: %w", err)
		}
	}
	out.Line(event{Event: "key", Public: priv.Public().String()})
	if *webSocket {
		if err := relay.UseWebSockets(context.Background(), true); err != nil {
			return err
		}
	}
	s := &session{priv: priv, opts: target.ClientOptions{
		UseURL: *useURL, IdealNode: *ideal, Mesh: *mesh, Watch: *watch, Prober: *prober,
		MaxTLS12: *tls12, Preferred: *preferred, CanAckPings: true, Logf: out.Logf(*verbose),
	}}
	if err := s.connect(); err != nil {
		return err
	}
	return s.serve(os.Stdin)
}

// connectedEvent tells how the connection was started, and fails if that is not
// what was asked for.
func (s *session) connectedEvent() (event, error) {
	ev := event{Event: "connected", Server: s.client.ServerPublicKey().String()}
	fast := false
	if cs, ok := s.client.TLSConnectionState(); ok {
		ev.TLS = tls.VersionName(cs.Version)
		chain, err := target.ReadChain(cs)
		if err != nil {
			return ev, err
		}
		fast = chain.FastStart()
	}
	ev.FastStart = &fast
	if (*wantFast == "yes" && !fast) || (*wantFast == "no" && fast) {
		return ev, fmt.Errorf("fast start is %v, wanted %s", fast, *wantFast)
	}
	return ev, nil
}

// serve executes commands until the input ends or the connection breaks.
func (s *session) serve(in io.Reader) error {
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		sc := bufio.NewScanner(in)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			lines <- append([]byte(nil), sc.Bytes()...)
		}
	}()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return s.client.Close()
			}
			if err := s.command(line); err != nil {
				return err
			}
		case err := <-s.broken:
			out.Line(event{Event: "closed", Error: err.Error()})
			if *expectClose {
				return nil
			}
			return errors.New("the server closed the connection")
		}
	}
}

func (s *session) command(line []byte) error {
	var c command
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("command %q: %w", line, err)
	}
	start := time.Now()
	err := s.execute(context.Background(), &c)
	ok := err == nil
	ev := event{Event: "done", Cmd: c.Cmd, ID: c.ID, OK: &ok, MS: time.Since(start).Milliseconds()}
	if err != nil {
		ev.Error = err.Error()
	}
	out.Line(ev)
	return nil
}
