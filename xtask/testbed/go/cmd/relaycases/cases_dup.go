package main

import (
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/types/key"
)

var plain = target.ClientOptions{CanAckPings: true}

func newestDuplicate(r *run) {
	priv := key.NewNode()
	a := r.plainPeer()
	older := r.peerWithKey(priv, plain)
	a.send(older, []byte("one"))
	older.wantPacket(a.key, []byte("one"))
	newer := r.peerWithKey(priv, plain)
	a.send(newer, []byte("two"))
	newer.wantPacket(a.key, []byte("two"))
	newest := r.peerWithKey(priv, plain)
	a.send(newest, []byte("three"))
	newest.wantPacket(a.key, []byte("three"))
	// The watch on the others comes last, for a ping makes them active.
	newer.wantQuiet()
	older.wantQuiet()
}

func lastWriter(r *run) {
	priv := key.NewNode()
	a := r.plainPeer()
	first, second := r.peerWithKey(priv, plain), r.peerWithKey(priv, plain)
	for _, speaker := range []*peer{first, second, first, first, second} {
		speaker.ping() // after the pong the relay has noted who spoke
		a.send(speaker, []byte("for the speaker"))
		speaker.wantPacket(a.key, []byte("for the speaker"))
	}
	// Packets count as speech as well.
	first.send(a, []byte("hi"))
	a.wantPacket(first.key, []byte("hi"))
	a.send(first, []byte("hi yourself"))
	first.wantPacket(a.key, []byte("hi yourself"))
	second.wantQuiet()
}

func remainingDuplicate(r *run) {
	priv := key.NewNode()
	a := r.plainPeer()
	first := r.peerWithKey(priv, plain)
	second := r.peerWithKey(priv, plain)
	third := r.peerWithKey(priv, plain)
	third.close()
	second.close()
	// Nothing tells when the relay has noticed, so ask until it has.
	first.ping()
	r.eventually(func() string {
		a.send(first, []byte("anyone"))
		m, quiet := first.quietFor(grace)
		if quiet {
			return "the remaining connection gets nothing"
		}
		return wrongPacket(m, a.key, "anyone")
	})
	// The others' departure is no departure of the key.
	a.wantQuiet()
	first.close()
}
