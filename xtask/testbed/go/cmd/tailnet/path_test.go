package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/payload"
)

// TestPath sends through a path what takes 100 ms at its rate, from either
// end, and wants all of it, and from the relay no sooner than the path allows.
func TestPath(t *testing.T) {
	const size, rate, delay = 50_000, 500_000, 50 * time.Millisecond
	relay, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	p, err := startPath(relay.Addr().String(), delay, rate)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	node, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	conn, err := relay.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want, err := io.ReadAll(payload.Reader(3, size))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []struct {
		name     string
		from, to net.Conn
		least    time.Duration
	}{
		{"to the relay", node, conn, 0},
		{"to the node", conn, node, delay + size*time.Second/rate - slack - chunkLen*time.Second/rate},
	} {
		start := time.Now()
		go func() { _, _ = dir.from.Write(want) }()
		got := make([]byte, size)
		if _, err := io.ReadFull(dir.to, got); err != nil {
			t.Fatalf("%s: %v", dir.name, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes arrived than were sent", dir.name)
		}
		if took := time.Since(start); took < dir.least {
			t.Errorf("%s: took %v, at least %v are needed", dir.name, took, dir.least)
		}
	}
	_ = conn.Close()
	if _, err := node.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the relay closed, and the node sees %v", err)
	}
}
