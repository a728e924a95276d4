package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"go4.org/mem"
	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// rawConn is a connection to the relay on which the case decides every byte.
type rawConn struct {
	r *run
	net.Conn
	br *bufio.Reader
}

// dialRaw opens the stream that HTTP is spoken on.
func (r *run) dialRaw() *rawConn {
	conn, err := r.relay.DialStream(r.ctx)
	r.must("connecting", err)
	return r.wrapRaw(conn)
}

func (r *run) wrapRaw(conn net.Conn) *rawConn {
	// A connection that the relay closed already gives an error here.
	r.cleanup(func() { _ = conn.Close() })
	return &rawConn{r: r, Conn: conn, br: bufio.NewReader(conn)}
}

func (c *rawConn) write(b []byte) {
	_, err := c.Write(b)
	c.r.must("writing", err)
}

// provoke writes what must make the relay close the connection. It may do so
// before it has read everything, so an error here says nothing.
func (c *rawConn) provoke(b []byte) { _, _ = c.Write(b) }

// frame is the bytes of one DERP frame.
func frame(t derp.FrameType, payload ...[]byte) []byte {
	n := 0
	for _, p := range payload {
		n += len(p)
	}
	b := binary.BigEndian.AppendUint32([]byte{byte(t)}, uint32(n))
	for _, p := range payload {
		b = append(b, p...)
	}
	return b
}

// request is the head of an upgrade request as Go's client writes it.
func (r *run) request(extra ...string) string {
	return r.upgrade("GET", "DERP", extra...)
}

func (r *run) upgrade(method, upgrade string, extra ...string) string {
	lines := append([]string{
		method + " /derp HTTP/1.1",
		"Host: " + r.relay.HostHeader(),
		"User-Agent: Go-http-client/1.1",
		"Connection: Upgrade",
		"Upgrade: " + upgrade,
	}, extra...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// readHead reads an HTTP head up to and with its blank line.
func (c *rawConn) readHead() string {
	c.r.must("deadline", c.SetReadDeadline(time.Now().Add(patience)))
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := c.br.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			c.r.fatalf("reading the head, after %q: %v", head.String(), err)
		}
	}
	return head.String()
}

// upgraded sends the request and reads the answer, which must be 101.
func (c *rawConn) upgraded(request string) {
	c.write([]byte(request))
	head := c.readHead()
	c.r.check(strings.HasPrefix(head, "HTTP/1.1 101 "), "answer to the upgrade is %q", head)
}

// readFrame reads the next frame, passing over keep-alives.
func (c *rawConn) readFrame(within time.Duration) (derp.FrameType, []byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, nil, err
	}
	for {
		t, n, err := derp.ReadFrameHeader(c.br)
		if err != nil {
			return 0, nil, err
		}
		if n > 1<<20 {
			return 0, nil, fmt.Errorf("frame %#x of %d bytes", byte(t), n)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c.br, b); err != nil {
			return 0, nil, err
		}
		if t != derp.FrameKeepAlive {
			return t, b, nil
		}
	}
}

func (c *rawConn) wantFrame(want derp.FrameType) []byte {
	t, b, err := c.readFrame(patience)
	c.r.must(fmt.Sprintf("waiting for frame %#x", byte(want)), err)
	c.r.check(t == want, "got frame %#x, want %#x", byte(t), byte(want))
	return b
}

// wantClosed wants the relay to close the connection without another frame.
func (c *rawConn) wantClosed() {
	if wrong := c.stillOpen(patience); wrong != "" {
		c.r.fatalf("%s", wrong)
	}
}

// stillOpen waits for the relay to close the connection, and says what it did
// instead.
func (c *rawConn) stillOpen(within time.Duration) string {
	t, b, err := c.readFrame(within)
	var ne net.Error
	switch {
	case err == nil:
		return fmt.Sprintf("got frame %#x of %d bytes, want the connection closed", byte(t), len(b))
	case errors.As(err, &ne) && ne.Timeout():
		return fmt.Sprintf("the connection is still open after %v", within)
	}
	return ""
}

// readServerKey reads the greeting and returns the relay's key.
func (c *rawConn) readServerKey() key.NodePublic {
	b := c.wantFrame(derp.FrameServerKey)
	c.r.check(len(b) == 40 && string(b[:8]) == derp.Magic, "greeting is %x", b)
	return key.NodePublicFromRaw32(mem.B(b[8:]))
}

// clientInfo is the login frame with the given JSON text.
func clientInfo(priv key.NodePrivate, server key.NodePublic, text string) []byte {
	return frame(derp.FrameClientInfo, priv.Public().AppendTo(nil), priv.SealTo(server, []byte(text)))
}

const plainInfo = `{"version":2,"CanAckPings":true}`

// greeted upgrades slowly and reads the greeting.
func (r *run) greeted() (*rawConn, key.NodePublic) {
	c := r.dialRaw()
	c.upgraded(r.request())
	return c, c.readServerKey()
}

// loggedIn is a raw connection after its login.
func (r *run) loggedIn(priv key.NodePrivate) *rawConn {
	c, server := r.greeted()
	c.write(clientInfo(priv, server, plainInfo))
	c.wantServerInfo(priv, server)
	return c
}

func (c *rawConn) wantServerInfo(priv key.NodePrivate, server key.NodePublic) {
	text, ok := priv.OpenFrom(server, c.wantFrame(derp.FrameServerInfo))
	c.r.check(ok, "ServerInfo does not open")
	c.r.check(string(text) == `{"version":2}`, "ServerInfo is %s", text)
}

// pingRaw makes a round trip through the relay.
func (c *rawConn) pingRaw() {
	c.write(frame(derp.FramePing, []byte("pingpong")))
	got := c.wantFrame(derp.FramePong)
	c.r.check(string(got) == "pingpong", "pong carries %q", got)
}

// readResponse reads an HTTP response and its body.
func (c *rawConn) readResponse(method string) (*http.Response, string) {
	c.r.must("deadline", c.SetReadDeadline(time.Now().Add(patience)))
	resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
	c.r.must("reading the response", err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	c.r.must("reading the body", err)
	return resp, string(body)
}
