package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/controlplane"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/varz"
	"tailscale.com/net/stun"
)

// The relay has its namespace to itself, so it gets the usual ports.
const (
	derpPort = 443
	stunPort = 3478
	httpPort = 80
)

// defaultRelay runs the reference.
const defaultRelay = "{bin}/derper -certmode manual -hostname {host} -certdir {dir}/certs" +
	" -a {ip}:{port} -stun-port {stun_port} -http-port {http_port} -c {dir}/derper.key"

// fill puts values in place of {name}s. One that is left over is a mistake.
func fill(template string, values map[string]string) (string, error) {
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "{"+name+"}", value)
	}
	s := strings.NewReplacer(pairs...).Replace(template)
	if i := strings.IndexByte(s, '{'); i >= 0 {
		return "", fmt.Errorf("unknown placeholder in %q", s[i:])
	}
	return s, nil
}

// startRelay starts the relay and waits until it answers on TLS and on STUN.
func (t *testbed) startRelay(ctx context.Context) error {
	host := relayIP
	if t.host != "" {
		host = t.host
	}
	line, err := fill(t.relayCmd, map[string]string{
		"dir": t.dir, "bin": t.bin, "ip": relayIP, "host": host, "port": strconv.Itoa(derpPort),
		"stun_port": strconv.Itoa(stunPort), "http_port": strconv.Itoa(httpPort),
	})
	if err != nil {
		return fmt.Errorf("-relay-cmd: %w", err)
	}
	env := []string{
		// Without it the relay tells its counters only to loopback, and the
		// probe comes from the relay's own address.
		"TS_DEBUG_TRUSTED_CIDRS=" + relayIP + "/32",
		"HOME=" + t.dir,
	}
	t.relay, err = startIn(t.ns.relay, "relay", t.dir, env, strings.Fields(line)...)
	if err != nil {
		return err
	}
	t.target = target.Target{
		Host: host, Dial: relayIP, Port: derpPort, CAFile: t.caFile, DialFunc: dialIn(t.ns.relay),
	}
	if err := t.target.Resolve(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = t.relay.Await(ctx, func() error {
		chain, err := t.target.FetchChain(ctx)
		if err != nil {
			return err
		}
		if t.caFile == "" {
			t.target.Pin = chain.LeafPin()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.relay.Await(ctx, t.askSTUN)
}

func (t *testbed) askSTUN() error {
	c, err := dialIn(t.ns.relay)(context.Background(), "udp", net.JoinHostPort(relayIP, strconv.Itoa(stunPort)))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return err
	}
	tx := stun.NewTxID()
	if _, err := c.Write(stun.Request(tx)); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return err
	}
	got, _, err := stun.ParseResponse(buf[:n])
	if err == nil && got != tx {
		err = errors.New("another transaction's answer")
	}
	return err
}

// startControl starts the control server beside the relay and gives it a DERP
// map with that relay only.
func (t *testbed) startControl(ctx context.Context) error {
	node := t.target.Node(stunPort)
	node.CanPort80 = true
	region := t.target.Region(0)
	region.Nodes[0] = node
	text, err := json.MarshalIndent(controlplane.Map(region), "", "  ")
	if err != nil {
		return err
	}
	mapFile := filepath.Join(t.dir, "derpmap.json")
	if err := os.WriteFile(mapFile, text, 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr := net.JoinHostPort(relayIP, "8080")
	t.controlURL = "http://" + addr
	t.control, err = startIn(t.ns.relay, "control", t.dir, nil,
		filepath.Join(filepath.Dir(self), "control"), "-listen", addr, "-derp-map", mapFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return t.control.Await(ctx, func() error {
		c, err := dialIn(t.ns.relay)(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// counters reads the relay's counters.
func (t *testbed) counters(ctx context.Context) (varz.Flow, error) {
	c, err := varz.Fetch(ctx, t.target.HTTPClient(), t.target.BaseURL())
	if err != nil {
		return varz.Flow{}, fmt.Errorf("the relay's counters: %w", err)
	}
	return c.Flow(), nil
}
