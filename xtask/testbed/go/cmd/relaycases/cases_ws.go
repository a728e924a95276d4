package main

import (
	"context"
	"time"

	"github.com/coder/websocket"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/payload"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/derp"
	"tailscale.com/net/wsconn"
	"tailscale.com/types/key"
)

// overWebSocket runs f while Go's clients connect with WebSocket.
func (r *run) overWebSocket(f func()) {
	r.must("WebSocket", r.relay.UseWebSockets(r.ctx, true))
	defer func() { r.must("WebSocket", r.relay.UseWebSockets(r.ctx, false)) }()
	f()
}

func webSocketBothWays(r *run) {
	r.overWebSocket(func() {
		a, b := r.plainPeer(), r.plainPeer()
		for _, n := range []int{0, 1, 1280, 4059, 9000, 32_000} {
			data := payload.Bytes(3, n)
			a.send(b, data)
			b.wantPacket(a.key, data)
			b.send(a, data)
			a.wantPacket(b.key, data)
		}
		a.ping()
	})
}

func webSocketToPlain(r *run) {
	var a *peer
	r.overWebSocket(func() { a = r.peer(target.ClientOptions{Preferred: true}) })
	b := r.plainPeer()
	a.send(b, []byte("from a browser"))
	b.wantPacket(a.key, []byte("from a browser"))
	b.send(a, []byte("to a browser"))
	a.wantPacket(b.key, []byte("to a browser"))
	a.close()
	b.wantGone(a.key, derp.PeerGoneReasonDisconnected)
}

// dialWebSocket opens a WebSocket by hand, with its own control of messages.
func (r *run) dialWebSocket() *websocket.Conn {
	ws, resp, err := websocket.Dial(r.ctx, r.relay.BaseURL()+"/derp", &websocket.DialOptions{
		HTTPClient:   r.relay.HTTPClient(),
		Subprotocols: []string{"derp"},
	})
	r.must("WebSocket", err)
	r.check(ws.Subprotocol() == "derp", "subprotocol %q", ws.Subprotocol())
	r.check(resp.Header.Get("Sec-WebSocket-Extensions") == "", "extensions %q", resp.Header.Get("Sec-WebSocket-Extensions"))
	r.cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// webSocketFraming cuts the stream where no frame ends, and puts several frames
// into one message.
func webSocketFraming(r *run) {
	ws := r.dialWebSocket()
	c := r.wrapRaw(wsconn.NetConn(context.Background(), ws, websocket.MessageBinary, ""))
	server := c.readServerKey()
	priv := key.NewNode()
	login := clientInfo(priv, server, plainInfo)
	for len(login) > 0 {
		n := min(7, len(login))
		c.write(login[:n])
		login = login[n:]
	}
	c.wantServerInfo(priv, server)
	c.write([]byte{}) // an empty message is no end of stream
	var both []byte
	for _, text := range []string{"one", "two", "three"} {
		both = append(both, frame(derp.FrameSendPacket, priv.Public().AppendTo(nil), []byte(text))...)
	}
	c.write(both)
	for _, text := range []string{"one", "two", "three"} {
		got := c.wantFrame(derp.FrameRecvPacket)
		r.check(string(got[32:]) == text, "got %q, want %q", got[32:], text)
	}
}

func webSocketText(r *run) {
	ws := r.dialWebSocket()
	r.must("writing", ws.Write(r.ctx, websocket.MessageText, []byte("hello")))
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	for {
		_, _, err := ws.Read(ctx)
		if err == nil {
			continue // the greeting
		}
		r.check(ctx.Err() == nil, "the connection is still open after %v", patience)
		got := websocket.CloseStatus(err)
		r.check(got == websocket.StatusUnsupportedData, "closed with %v (%v), want 1003", got, err)
		return
	}
}

// webSocketLegacy is how very old clients asked for DERP: the word WebSocket,
// but none of its protocol.
func webSocketLegacy(r *run) {
	c := r.dialRaw()
	c.upgraded(r.upgrade("GET", "websocket"))
	server := c.readServerKey()
	priv := key.NewNode()
	c.write(clientInfo(priv, server, plainInfo))
	c.wantServerInfo(priv, server)
	r.must("deadline", c.SetReadDeadline(time.Now().Add(patience)))
	c.pingRaw()
}
