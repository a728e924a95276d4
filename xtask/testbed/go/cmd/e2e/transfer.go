package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/payload"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/varz"
	"golang.org/x/net/proxy"
)

const fileSeed = 7

// serveFile serves the file on node B's loopback, where its daemon delivers
// what arrives for it over the tailnet.
func (t *testbed) serveFile() (port int, stop func(), err error) {
	var ln net.Listener
	err = inNamespace(t.ns.b, func() error {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(t.bytes, 10))
		// If the client goes, it reports what it missed.
		_, _ = io.Copy(w, payload.Reader(fileSeed, t.bytes))
	})}
	go func() { _ = srv.Serve(ln) }()
	return ln.Addr().(*net.TCPAddr).Port, func() { _ = srv.Close() }, nil
}

// transfer fetches the file from A through its daemon's SOCKS server, while
// watching what the relay spends on it.
func (t *testbed) transfer(ctx context.Context, r *report) error {
	port, stop, err := t.serveFile()
	if err != nil {
		return err
	}
	defer stop()
	peer, err := peerOf(t.a.status)
	if err != nil {
		return err
	}
	socks, err := proxy.SOCKS5("tcp", socksAddr, nil, nsDialer(dialIn(t.ns.a)))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:        socks.(proxy.ContextDialer).DialContext,
		DisableCompression: true,
	}}
	url := "http://" + net.JoinHostPort(peer.TailscaleIPs[0].String(), strconv.Itoa(port)) + "/file"

	before, err := t.counters(ctx)
	if err != nil {
		return err
	}
	cpuBefore, err := readCPU(t.relay.PID())
	if err != nil {
		return err
	}
	start := time.Now()
	sum, err := fetch(ctx, client, url)
	elapsed := time.Since(start)
	if err != nil {
		return fmt.Errorf("fetching the file: %w", err)
	}
	cpuAfter, err := readCPU(t.relay.PID())
	if err != nil {
		return err
	}
	tr := &r.Transfer
	tr.Bytes, tr.SHA256, tr.Seconds = t.bytes, sum, elapsed.Seconds()
	tr.MbitPerS = float64(t.bytes) * 8 / 1e6 / tr.Seconds
	tr.RelayCPUSeconds = (cpuAfter.Exact - cpuBefore.Exact).Seconds()
	tr.RelayCPUTickSeconds = (cpuAfter.Ticks - cpuBefore.Ticks).Seconds()
	tr.RelayRSSKiB = cpuAfter.RSSKiB
	if want := payload.Sum(fileSeed, t.bytes); sum != want {
		return fmt.Errorf("the file arrived with hash %s, want %s", sum, want)
	}
	return t.proveFlow(ctx, before, r)
}

func fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	h := sha256.New()
	if _, err := io.Copy(h, resp.Body); err != nil {
		return "", err
	}
	return payload.Hex(h), nil
}

// proveFlow wants the relay to have carried at least the file, and to account
// for every packet.
func (t *testbed) proveFlow(ctx context.Context, before varz.Flow, r *report) error {
	r.Transfer.Before = before
	return t.relay.Await(ctx, func() error {
		after, err := t.counters(ctx)
		if err != nil {
			return err
		}
		grown := after.Since(before)
		r.Transfer.After, r.Transfer.Grown = after, grown
		if grown.BytesReceived < t.bytes || grown.BytesSent < t.bytes {
			return fmt.Errorf("the relay counted %d bytes in and %d out", grown.BytesReceived, grown.BytesSent)
		}
		if lost := after.Lost(); lost != 0 {
			return fmt.Errorf("%d packets are unaccounted for", lost)
		}
		return nil
	})
}

// nsDialer makes a dialler of a function, for the SOCKS client.
type nsDialer func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial connects without a deadline.
func (d nsDialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

// DialContext connects.
func (d nsDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}
