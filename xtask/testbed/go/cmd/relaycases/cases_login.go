package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"tailscale.com/derp"
	"tailscale.com/types/key"
)

func isName(host string) bool { return net.ParseIP(host) == nil }

func slowGreeting(r *run) {
	c := r.dialRaw()
	c.write([]byte(r.request()))
	head := c.readHead()
	server := c.readServerKey()
	want := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: DERP\r\n" +
		"Connection: Upgrade\r\n" +
		"Derp-Version: 2\r\n" +
		"Derp-Public-Key: " + server.UntypedHexString() + "\r\n\r\n"
	r.check(head == want, "head is %q, want %q", head, want)
	priv := key.NewNode()
	c.write(clientInfo(priv, server, plainInfo))
	c.wantServerInfo(priv, server)
}

// fastGreeting asks for a fast start and sends request, login, a home note and
// a packet to itself in one write: none of the bytes behind the blank line may
// be lost, and no HTTP answer may come.
func fastGreeting(r *run) {
	_, server := r.greeted()
	priv := key.NewNode()
	c := r.dialRaw()
	all := []byte(r.request("Derp-Fast-Start: 1"))
	all = append(all, clientInfo(priv, server, plainInfo)...)
	all = append(all, frame(derp.FrameNotePreferred, []byte{1})...)
	all = append(all, frame(derp.FrameSendPacket, priv.Public().AppendTo(nil), []byte("early"))...)
	c.write(all)
	r.check(c.readServerKey() == server, "another key")
	c.wantServerInfo(priv, server)
	got := c.wantFrame(derp.FrameRecvPacket)
	want := append(priv.Public().AppendTo(nil), "early"...)
	r.check(string(got) == string(want), "packet is %x, want %x", got, want)
	// Any other value asks for nothing.
	c = r.dialRaw()
	c.upgraded(r.request("Derp-Fast-Start: yes"))
	c.readServerKey()
}

func upgradeSpelling(r *run) {
	for _, u := range []string{"DERP", "derp", "Derp", "WebSocket"} {
		c := r.dialRaw()
		c.upgraded(r.upgrade("GET", u))
		c.readServerKey()
	}
	// The reference does not look at Connection.
	c := r.dialRaw()
	c.upgraded(strings.Replace(r.request(), "Connection: Upgrade\r\n", "", 1))
	c.readServerKey()
	// Header names are as in HTTP: case does not matter.
	c = r.dialRaw()
	head, rest, _ := strings.Cut(r.request(), "\r\n")
	c.upgraded(head + "\r\n" + strings.ToLower(rest))
}

// upgradeByPost may be refused: no client does it.
func upgradeByPost(r *run) {
	c := r.dialRaw()
	c.write([]byte(r.upgrade("POST", "DERP", "Content-Length: 0")))
	head := c.readHead()
	switch {
	case strings.HasPrefix(head, "HTTP/1.1 101 "):
		c.readServerKey()
		r.notef("taken")
	case strings.HasPrefix(head, "HTTP/1.1 4"):
		r.notef("refused: %s", head[:strings.Index(head, "\r\n")])
	default:
		r.fatalf("answer is %q", head)
	}
}

func infoAdmitted(r *run) {
	mesh := strings.Repeat("ab", 32)
	for _, text := range []string{
		plainInfo,
		`{}`,
		`null`,
		`{"version":99}`,
		`{"version":0}`,
		`{"Version":2,"CANACKPINGS":true,"isprober":true}`,
		`{"meshKey":"` + mesh + `","version":2}`,
		`{"MESHKEY":"` + strings.ToUpper(mesh) + `"}`,
		`{"version":2,"AppName":"x","Future":{"a":[1,null]}}`,
		" {\"version\":2}\n",
	} {
		priv := key.NewNode()
		c, server := r.greeted()
		c.write(clientInfo(priv, server, text))
		t, b, err := c.readFrame(patience)
		r.must("ServerInfo for "+text, err)
		_, opened := priv.OpenFrom(server, b)
		r.check(t == derp.FrameServerInfo && opened, "%s: frame %#x", text, byte(t))
	}
}

func infoRefused(r *run) {
	for _, text := range []string{
		``,
		`[]`,
		`{`,
		`{"version":2}x`,
		`{"version":"2"}`,
		`{"version":2.0}`,
		`{"meshKey":""}`,
		`{"meshKey":null}`,
		`{"meshKey":"abcdef"}`,
		`{"meshKey":"` + strings.Repeat("ab", 33) + `"}`,
		`{"meshKey":"` + strings.Repeat("zz", 32) + `"}`,
		`{"meshKey":7}`,
	} {
		c, server := r.greeted()
		c.provoke(clientInfo(key.NewNode(), server, text))
		if wrong := c.stillOpen(patience); wrong != "" {
			r.fatalf("client info %s: %s", text, wrong)
		}
	}
	// A box that is for another relay, or damaged.
	c, _ := r.greeted()
	c.provoke(clientInfo(key.NewNode(), key.NewNode().Public(), plainInfo))
	c.wantClosed()
}

func loginOutOfOrder(r *run) {
	k := key.NewNode().Public().AppendTo(nil)
	for name, f := range map[string][]byte{
		"a packet first":               frame(derp.FrameSendPacket, k, []byte("x")),
		"a ping first":                 frame(derp.FramePing, make([]byte, 8)),
		"an unknown frame first":       frame(0x77, make([]byte, 100)),
		"client info of 55 bytes":      frame(derp.FrameClientInfo, make([]byte, 55)),
		"client info of 262145 bytes":  {byte(derp.FrameClientInfo), 0, 4, 0, 1},
		"client info of 4 GiB minus 1": {byte(derp.FrameClientInfo), 255, 255, 255, 255},
	} {
		c, _ := r.greeted()
		c.provoke(f)
		if wrong := c.stillOpen(patience); wrong != "" {
			r.fatalf("%s: %s", name, wrong)
		}
	}
}

func zeroKey(r *run) {
	a, b := r.plainPeer(), r.plainPeer()
	c, _ := r.greeted()
	c.provoke(frame(derp.FrameClientInfo, make([]byte, 32+24+16+2)))
	c.wantClosed()
	a.send(b, []byte("still here"))
	b.wantPacket(a.key, []byte("still here"))
}

// silentClient is closed 10 s after the greeting.
func silentClient(r *run) {
	c, _ := r.greeted()
	start := time.Now()
	if wrong := c.stillOpen(20 * time.Second); wrong != "" {
		r.fatalf("%s", wrong)
	}
	took := time.Since(start)
	r.check(took > 9*time.Second && took < 16*time.Second, "closed after %v", took)
	r.notef("closed after %v", took.Round(100*time.Millisecond))
}

// keepAlive waits for the first keep-alive frame, due after 60 to 65 s.
func keepAlive(r *run) {
	c := r.loggedIn(key.NewNode())
	start := time.Now()
	r.must("deadline", c.SetReadDeadline(start.Add(75*time.Second)))
	t, n, err := derp.ReadFrameHeader(c.br)
	r.must("waiting for a keep-alive", err)
	took := time.Since(start)
	what := fmt.Sprintf("frame %#x of %d bytes after %v", byte(t), n, took.Round(100*time.Millisecond))
	r.check(t == derp.FrameKeepAlive && n == 0 && took > 58*time.Second && took < 67*time.Second, "%s", what)
	r.notef("%s", what)
}
