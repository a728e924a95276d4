package main

import (
	"os"
	"testing"
	"time"
)

func TestPlaceholdersAreFilledAndStrangersRefused(t *testing.T) {
	values := map[string]string{"ip": "10.0.0.1", "port": "443", "dir": "/d"}
	got, err := fill("relay -a {ip}:{port} -c {dir}/key", values)
	if want := "relay -a 10.0.0.1:443 -c /d/key"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := fill("relay {prot}", values); err == nil {
		t.Errorf("an unknown placeholder gave %q", got)
	}
}

func TestPongsAreTakenApart(t *testing.T) {
	m := pongVia.FindStringSubmatch("x\npong from b (100.64.0.2) via DERP(test) in 12ms\ny")
	if len(m) != 3 || m[1] != "DERP(test)" || m[2] != "12ms" {
		t.Errorf("got %q", m)
	}
	if m := pongVia.FindStringSubmatch("direct connection not established"); m != nil {
		t.Errorf("got %q", m)
	}
}

func TestOwnCPUTimeGrows(t *testing.T) {
	before, err := readCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
	}
	after, err := readCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after.Exact <= before.Exact || after.RSSKiB == 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
