package main

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"tailscale.com/net/stun"
)

func (r *run) dialSTUN() net.Conn {
	host, _, err := net.SplitHostPort(r.relay.DialAddr())
	r.must("address", err)
	c, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(r.stunPort)))
	r.must("UDP", err)
	r.cleanup(func() { _ = c.Close() })
	return c
}

// askSTUN sends one request and returns the answer to it, or nil.
func (r *run) askSTUN(c net.Conn, request []byte, within time.Duration) []byte {
	_, err := c.Write(request)
	r.must("sending", err)
	r.must("deadline", c.SetReadDeadline(time.Now().Add(within)))
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	r.must("receiving", err)
	return buf[:n]
}

func stunAnswers(r *run) {
	c := r.dialSTUN()
	for range 3 {
		tx := stun.NewTxID()
		b := r.askSTUN(c, stun.Request(tx), patience)
		r.check(b != nil, "no answer")
		got, addr, err := stun.ParseResponse(b)
		r.must("parsing the answer", err)
		r.check(got == tx, "transaction %x, want %x", got, tx)
		r.check(addr.String() == c.LocalAddr().String(), "address %v, want %v", addr, c.LocalAddr())
		// A relay on a dual-stack socket may answer with the mapped address.
		r.check((len(b) == 32 && b[25] == 1) || (len(b) == 44 && b[25] == 2), "answer %x", b)
		r.detail = "family " + strconv.Itoa(int(b[25]))
	}
	// Attributes before the fingerprint do not matter.
	tx := stun.NewTxID()
	extra := withFingerprint(slices.Concat(stun.Request(tx)[:32], []byte{0x80, 0x30, 0, 4, 1, 2, 3, 4}))
	r.check(r.askSTUN(c, extra, patience) != nil, "no answer to a request with one more attribute")
}

// withFingerprint sets the header's length and appends the fingerprint.
func withFingerprint(b []byte) []byte {
	b = slices.Clone(b)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20+8))
	sum := crc32.ChecksumIEEE(b) ^ 0x5354554e
	return binary.BigEndian.AppendUint32(append(b, 0x80, 0x28, 0, 4), sum)
}

func stunIgnores(r *run) {
	c := r.dialSTUN()
	good := stun.Request(stun.NewTxID())
	changed := func(f func(b []byte)) []byte {
		b := slices.Clone(good)
		f(b)
		return b
	}
	for name, b := range map[string][]byte{
		"an empty datagram":      {},
		"one byte":               {0},
		"a header only":          changed(func(b []byte) { b[3] = 0 })[:20],
		"another cookie":         changed(func(b []byte) { b[4] ^= 1 }),
		"another method":         withFingerprint(changed(func(b []byte) { b[1] = 3 })[:32]),
		"other software":         withFingerprint(changed(func(b []byte) { b[24] = 'T' })[:32]),
		"no software":            withFingerprint(good[:20]),
		"no fingerprint":         changed(func(b []byte) { b[3] = 12 })[:32],
		"a wrong fingerprint":    changed(func(b []byte) { b[39] ^= 1 }),
		"four more bytes":        slices.Concat(good, make([]byte, 4)),
		"an attribute cut short": good[:38],
	} {
		got := r.askSTUN(c, b, grace)
		r.check(got == nil, "%s was answered: %x", name, got)
	}
	tx := stun.NewTxID()
	b := r.askSTUN(c, stun.Request(tx), patience)
	r.check(b != nil, "a good request afterwards was not answered")
}
