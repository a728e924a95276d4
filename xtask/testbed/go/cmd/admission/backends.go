package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// backend is a way of telling a relay who may use it.
type backend struct {
	name string
	// byGo says that the flags are Go's, so that Go's rules count: a client is
	// asked about once, and nothing is remembered.
	byGo bool
	// failOpen says that everybody is admitted while the source is dead.
	failOpen bool
	// keepsLast says that what the source said last counts while it is dead.
	keepsLast bool
	// slack is how long the relay may take to learn of a change, beyond the
	// interval at which it asks again.
	slack time.Duration
	// ownKey says that the tailscaled's own node must be admitted.
	ownKey bool
	// prepare makes the source and the flags; dir is for files.
	prepare func(l *lab, dir string) (source, []string, error)
}

// interval is how often our relay asks again about connected clients.
const interval = time.Second

var ours = []string{"-verify-interval=" + interval.String(), "-require-verification"}

var goBackends = []backend{
	{name: "-verify-clients", byGo: true, ownKey: true, prepare: func(l *lab, _ string) (source, []string, error) {
		return daemonSource{l.net}, []string{"-verify-clients", "-socket=" + l.net.socket()}, nil
	}},
	{name: "-verify-client-url", byGo: true, failOpen: true, prepare: func(*lab, string) (source, []string, error) {
		s, err := admissionURL()
		return s, []string{"-verify-client-url=" + s.url()}, err
	}},
	{name: "-verify-client-url closed", byGo: true, prepare: func(*lab, string) (source, []string, error) {
		s, err := admissionURL()
		return s, []string{"-verify-client-url=" + s.url(), "-verify-client-url-fail-open=false"}, err
	}},
	{name: "-verify-clients and URL", byGo: true, prepare: func(l *lab, _ string) (source, []string, error) {
		s, err := admissionURL()
		both := &bothSource{sources: [2]source{daemonSource{l.net}, s}}
		return both, []string{"-verify-clients", "-socket=" + l.net.socket(), "-verify-client-url=" + s.url()}, err
	}},
}

var ourBackends = []backend{
	{name: "tailscaled", ownKey: true, prepare: func(l *lab, _ string) (source, []string, error) {
		return daemonSource{l.net}, append(ours, "-verify-tailscaled="+l.net.socket()), nil
	}},
	{name: "Headscale 0.26 /verify", prepare: headscaleBackend("0.26.1", false)},
	{name: "Headscale 0.30 /verify", prepare: headscaleBackend("0.30-dev", false)},
	{name: "Headscale 0.26 nodes", slack: 10 * time.Second, prepare: headscaleBackend("0.26.1", true)},
	{name: "Headscale 0.30 nodes", slack: 10 * time.Second, prepare: headscaleBackend("0.30-dev", true)},
	{name: "URL", prepare: func(*lab, string) (source, []string, error) {
		s, err := admissionURL()
		return s, append(ours, "-verify-url="+s.url()), err
	}},
	{name: "allowlist", keepsLast: true, slack: time.Second, prepare: func(_ *lab, dir string) (source, []string, error) {
		s := &fileSource{path: filepath.Join(dir, "members.txt")}
		return s, append(ours, "-allowlist="+s.path), s.revive(context.Background())
	}},
	{name: "allowlist of a status", keepsLast: true, slack: time.Second, ownKey: true, prepare: func(l *lab, dir string) (source, []string, error) {
		s := &statusSource{l.net, filepath.Join(dir, "status.json")}
		return s, append(ours, "-allowlist="+s.path), s.revive(context.Background())
	}},
	{name: "denylist over a tailscaled", keepsLast: true, slack: time.Second, prepare: func(l *lab, dir string) (source, []string, error) {
		s := &fileSource{path: filepath.Join(dir, "banned.txt"), denies: true}
		for _, name := range []string{"a", "b", "c", "d"} {
			if err := l.net.set(name, true); err != nil {
				return nil, nil, err
			}
		}
		return s, append(ours, "-denylist="+s.path, "-verify-tailscaled="+l.net.socket()), s.revive(context.Background())
	}},
	{name: "tailscaled and URL, all", prepare: func(l *lab, _ string) (source, []string, error) {
		s, err := admissionURL()
		both := &bothSource{sources: [2]source{daemonSource{l.net}, s}}
		return both, append(ours, "-verify-policy=all", "-verify-tailscaled="+l.net.socket(), "-verify-url="+s.url()), err
	}},
}

func headscaleBackend(version string, byList bool) func(*lab, string) (source, []string, error) {
	return func(l *lab, dir string) (source, []string, error) {
		real, err := readRecording(filepath.Join(l.recordings, fmt.Sprintf("headscale-%s.json", version)))
		if err != nil {
			return nil, nil, err
		}
		s, err := headscale(real)
		if err != nil {
			return nil, nil, err
		}
		flags := append(ours, "-verify-headscale="+s.url())
		if byList {
			file := filepath.Join(dir, "headscale.key")
			flags = append(flags, "-verify-headscale-api-key-file="+file)
			err = os.WriteFile(file, []byte(apiKey+"\n"), 0o600)
		}
		return s, flags, err
	}
}
