package target

import "testing"

func TestAURLSetsHostPortAndTransport(t *testing.T) {
	for url, want := range map[string]struct {
		addr, base string
		plain      bool
	}{
		"https://relay.test":          {"relay.test:443", "https://relay.test", false},
		"https://127.0.0.1:8443":      {"127.0.0.1:8443", "https://127.0.0.1:8443", false},
		"http://relay.test":           {"relay.test:80", "http://relay.test", true},
		"http://127.0.0.1:3340/derp":  {"127.0.0.1:3340", "http://127.0.0.1:3340", true},
		"https://[2001:db8::7]:8443/": {"[2001:db8::7]:8443", "https://[2001:db8::7]:8443", false},
	} {
		r := Target{URL: url}
		if err := r.Resolve(); err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if r.DialAddr() != want.addr || r.BaseURL() != want.base || r.PlainTCP != want.plain {
			t.Errorf("%s: dials %s, base %s, plain %v", url, r.DialAddr(), r.BaseURL(), r.PlainTCP)
		}
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, r := range []Target{
		{URL: "ftp://relay.test"},
		{URL: "https://relay.test:port"},
		{Pin: "8e77"},
		{Pin: "sha256-raw:8e77"},
		{MeshText: "badf00d"},
		{MeshFile: "/nonexistent"},
		{CAFile: "/nonexistent"},
		{CAFile: "/dev/null"},
	} {
		if err := r.Resolve(); err == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
}
