package main

import (
	"bytes"
	"time"

	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// wrongPacket says how m differs from a packet, or nothing.
func wrongPacket(m derp.ReceivedMessage, src key.NodePublic, data string) string {
	p, ok := m.(derp.ReceivedPacket)
	if !ok || p.Source != src || !bytes.Equal(p.Data, []byte(data)) {
		return "got " + show(m)
	}
	return ""
}

// disco is a packet that looks like disco traffic: the magic, a key and a
// nonce, and nothing more.
func disco() []byte {
	return append([]byte("TS\xf0\x9f\x92\xac"), make([]byte, 56)...)
}

func peerGone(r *run) {
	for range 3 {
		a, b := r.plainPeer(), r.plainPeer()
		a.send(b, []byte("here I am"))
		b.wantPacket(a.key, []byte("here I am"))
		a.close()
		b.wantGone(a.key, derp.PeerGoneReasonDisconnected)
		b.wantQuiet()
	}
}

// peerGoneAgain lets the same peer leave twice. The reference tells each
// receiving connection only once; telling it again is fine too.
func peerGoneAgain(r *run) {
	priv := key.NewNode()
	b := r.plainPeer()
	told := 0
	for round := range 3 {
		a := r.peerWithKey(priv, plain)
		a.send(b, []byte("here I am"))
		b.wantPacket(a.key, []byte("here I am"))
		a.close()
		if round == 0 {
			b.wantGone(a.key, derp.PeerGoneReasonDisconnected)
			told++
			continue
		}
		if m, quiet := b.quietFor(2 * grace); !quiet {
			want := derp.PeerGoneMessage{Peer: a.key, Reason: derp.PeerGoneReasonDisconnected}
			r.check(m == derp.ReceivedMessage(want), "got %s", show(m))
			told++
		}
	}
	r.notef("told of %d of 3 departures", told)
}

// peerGoneStranger checks that only those who received something are told, and
// that a sender is not told when its receiver goes.
func peerGoneStranger(r *run) {
	a, b, stranger := r.plainPeer(), r.plainPeer(), r.plainPeer()
	a.send(b, []byte("hi"))
	b.wantPacket(a.key, []byte("hi"))
	b.close()
	a.wantQuiet()
	stranger.wantQuiet()
}

func notHere(r *run) {
	a := r.plainPeer()
	nobody := key.NewNode().Public()
	start := time.Now()
	for range 5 {
		a.sendTo(nobody, disco())
	}
	for range 3 {
		a.wantGone(nobody, derp.PeerGoneReasonNotHere)
	}
	a.ping()
	m, quiet := a.quietFor(grace)
	r.check(quiet || time.Since(start) > time.Second, "a fourth answer within a second: %v", m)
	// One more is allowed each second.
	r.eventually(func() string {
		a.sendTo(nobody, disco())
		if _, quiet := a.quietFor(grace); quiet {
			return "no further answer"
		}
		return ""
	})
	r.notef("fourth answer after %v", time.Since(start).Round(10*time.Millisecond))
	r.check(time.Since(start) > 700*time.Millisecond, "a fourth answer after %v", time.Since(start))
}

func notHereData(r *run) {
	a := r.plainPeer()
	almost := disco()[:61] // too short for disco
	a.sendTo(key.NewNode().Public(), []byte("anybody?"))
	a.sendTo(key.NewNode().Public(), almost)
	a.sendTo(key.NewNode().Public(), nil)
	a.wantQuiet()
}
