package main

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
)

// answer is an HTTP response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request to the DERP port, or to base if that is not empty.
func (r *run) ask(base, method, path string, header ...string) answer {
	relay := r.relay
	if base == "" {
		base = relay.BaseURL()
	}
	return r.askOf(&relay, base, method, path, header...)
}

func (r *run) askOf(relay *target.Target, base, method, path string, header ...string) answer {
	req, err := http.NewRequestWithContext(r.ctx, method, base+path, nil)
	r.must("request", err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := relay.HTTPClient().Do(req)
	r.must(method+" "+path, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	r.must("body of "+path, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// onHTTPPort asks the plain HTTP port that accompanies a TLS port.
func (r *run) onHTTPPort(method, path string, header ...string) answer {
	side := r.relay
	side.PlainTCP, side.Port = true, r.httpPort
	return r.askOf(&side, side.BaseURL(), method, path, header...)
}

func (r *run) wantStatus(a answer, want int, what string) {
	r.check(a.status == want, "%s: status %d, want %d (%.80q)", what, a.status, want, a.body)
}

func httpEndpoints(r *run) {
	for _, path := range []string{"/derp/probe", "/derp/latency-check"} {
		for _, method := range []string{"GET", "HEAD"} {
			a := r.ask("", method, path)
			r.wantStatus(a, 200, method+" "+path)
			r.check(a.header.Get("Access-Control-Allow-Origin") == "*" && a.body == "",
				"%s %s: CORS %q, body %q", method, path, a.header.Get("Access-Control-Allow-Origin"), a.body)
		}
		a := r.ask("", "POST", path)
		r.wantStatus(a, 405, "POST "+path)
		r.check(a.header.Get("Access-Control-Allow-Origin") == "", "POST %s: CORS header", path)
		r.check(strings.TrimSpace(a.body) == "bogus probe method", "POST %s: body %q", path, a.body)
	}

	a := r.ask("", "GET", "/robots.txt")
	r.wantStatus(a, 200, "/robots.txt")
	r.check(a.body == "User-agent: *\nDisallow: /\n", "/robots.txt is %q", a.body)

	for _, path := range []string{"/bootstrap-dns", "/bootstrap-dns?q=example.com"} {
		a = r.ask("", "GET", path)
		r.wantStatus(a, 200, path)
		r.check(strings.HasPrefix(a.header.Get("Content-Type"), "application/json"), "%s: type %q", path, a.header.Get("Content-Type"))
	}

	for _, path := range []string{"/", "/nonexist", "/derp/x", "/derp/"} {
		a = r.ask("", "GET", path)
		r.wantStatus(a, 200, path)
		r.check(strings.HasPrefix(a.header.Get("Content-Type"), "text/html"), "%s: type %q", path, a.header.Get("Content-Type"))
		r.check(strings.Contains(a.body, "DERP"), "%s does not say what this is: %.80q", path, a.body)
	}
}

func httpBrowserHeaders(r *run) {
	want := map[string]string{
		"Strict-Transport-Security": "max-age=63072000; includeSubDomains",
		"Content-Security-Policy":   "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; block-all-mixed-content; object-src 'none'",
		"X-Frame-Options":           "DENY",
		"X-Content-Type-Options":    "nosniff",
	}
	for _, path := range []string{"/", "/robots.txt", "/bootstrap-dns"} {
		a := r.ask("", "GET", path)
		for name, value := range want {
			r.check(a.header.Get(name) == value, "%s: %s is %q, want %q", path, name, a.header.Get(name), value)
		}
	}
}

func httpUpgradeRequired(r *run) {
	a := r.ask("", "GET", "/derp")
	r.wantStatus(a, 426, "/derp without upgrade")
	r.check(a.body == "DERP requires connection upgrade\n", "body %q", a.body)
	c := r.dialRaw()
	c.write([]byte(r.upgrade("GET", "h2c")))
	resp, body := c.readResponse("GET")
	r.check(resp.StatusCode == 426, "Upgrade: h2c: status %d, %q", resp.StatusCode, body)
}

// challenges are values of the challenge header and whether they are answered.
var challenges = []struct {
	value    string
	answered bool
}{
	{"", false},
	{"input", true},
	{"ts_derp99b.tailscale.com", true},
	{"a-b_c:1.2", true},
	{strings.Repeat("x", 64), true},
	{strings.Repeat("x", 65), false},
	{"foo bar", false},
	{"foo/bar", false},
	{"f\u00fc", false},
}

func (r *run) captivePortal(ask func(method, path string, header ...string) answer) {
	for _, c := range challenges {
		a := ask("GET", "/generate_204?t=1", "X-Tailscale-Challenge", c.value)
		r.wantStatus(a, 204, "challenge "+strconv.Quote(c.value))
		want := ""
		if c.answered {
			want = "response " + c.value
		}
		r.check(a.header.Get("X-Tailscale-Response") == want, "challenge %q: answer %q", c.value, a.header.Get("X-Tailscale-Response"))
		r.check(a.header.Get("Cache-Control") == "no-cache, no-store, must-revalidate, no-transform, max-age=0",
			"Cache-Control %q", a.header.Get("Cache-Control"))
	}
	r.wantStatus(ask("POST", "/generate_204"), 204, "POST /generate_204")
}

func httpChallenges(r *run) {
	r.captivePortal(func(method, path string, header ...string) answer { return r.ask("", method, path, header...) })
}

func httpPortChallenges(r *run) { r.captivePortal(r.onHTTPPort) }

func httpConnect(r *run) {
	c := r.dialRaw()
	c.write([]byte("CONNECT controlplane.tailscale.com:443 HTTP/1.1\r\nHost: controlplane.tailscale.com:443\r\n\r\n"))
	resp, body := c.readResponse("GET") // a refusal has a body, unlike an accepted CONNECT
	r.check(resp.StatusCode == 403 && strings.Contains(body, "CONNECT not enabled"), "status %d, %q", resp.StatusCode, body)
}

func httpPortRedirects(r *run) {
	for _, method := range []string{"GET", "HEAD"} {
		a := r.onHTTPPort(method, "/some/where?x=1&y=%20")
		r.wantStatus(a, 302, method+" on the HTTP port")
		host := net.JoinHostPort(r.relay.Host, strconv.Itoa(r.httpPort))
		want := "https://" + host + "/some/where?x=1&y=%20"
		got := a.header.Get("Location")
		if got != want {
			// The reference keeps the HTTP port in it; leaving it out is accepted.
			u, err := url.Parse(got)
			r.must("Location", err)
			r.check(u.Scheme == "https" && u.Hostname() == r.relay.Host && u.RequestURI() == "/some/where?x=1&y=%20", "Location %q", got)
			r.notef("Location %s", got)
		}
	}
	a := r.onHTTPPort("POST", "/some/where")
	r.wantStatus(a, 400, "POST on the HTTP port")
	r.check(strings.TrimSpace(a.body) == "Use HTTPS", "body %q", a.body)
}

// debugPages is asked from this machine, which may see them.
func debugPages(r *run) {
	r.wantStatus(r.ask("", "GET", "/debug/"), 200, "/debug/")
	a := r.ask("", "GET", "/debug/varz")
	r.wantStatus(a, 200, "/debug/varz")
	r.check(strings.HasPrefix(a.header.Get("Content-Type"), "text/plain"), "/debug/varz: type %q", a.header.Get("Content-Type"))
	r.check(strings.Contains(a.body, "\nderp_accepts "), "/debug/varz lacks derp_accepts")
	r.wantStatus(r.ask("", "GET", "/debug/nosuchpage"), 404, "/debug/nosuchpage")
	a = r.ask("", "GET", "/debug/varz", "X-Forwarded-For", "127.0.0.1")
	r.wantStatus(a, 403, "/debug/varz through a proxy")
}
