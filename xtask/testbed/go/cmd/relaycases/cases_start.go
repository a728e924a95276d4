package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"strings"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/derp"
	"tailscale.com/types/key"
)

// start connects and relays a packet, and tells how the connection was started.
func (r *run) start(o target.ClientOptions) target.Chain {
	a, b := r.peer(o), r.plainPeer()
	a.send(b, []byte("started"))
	b.wantPacket(a.key, []byte("started"))
	cs, ok := a.c.TLSConnectionState()
	r.check(ok, "no TLS")
	chain, err := target.ReadChain(cs)
	r.must("reading the chain", err)
	return chain
}

func fastStartByRegion(r *run) {
	chain := r.start(target.ClientOptions{})
	r.check(chain.FastStart(), "the client cannot start fast with what the relay shows")
}

func fastStartByURL(r *run) {
	chain := r.start(target.ClientOptions{UseURL: true})
	r.check(chain.FastStart(), "the client cannot start fast with what the relay shows")
}

func slowStartTLS12(r *run) {
	chain := r.start(target.ClientOptions{MaxTLS12: true})
	r.check(chain.Version == tls.VersionTLS12, "version %s", tls.VersionName(chain.Version))
	r.check(chain.Meta != nil, "no meta certificate with TLS 1.2")
}

func metaCert(r *run) {
	chain, err := r.relay.FetchChain(r.ctx)
	r.must("fetching the chain", err)
	m := chain.Meta
	r.check(m != nil, "no meta certificate")
	_, server := r.greeted()
	r.check(chain.MetaKey == server, "key %v, want the relay's own %v", chain.MetaKey, server)
	r.check(m.Version == 3, "X.509 version %d", m.Version)
	r.check(m.SerialNumber.Int64() == derp.ProtocolVersion, "serial number %v", m.SerialNumber)
	r.check(m.Subject.String() == m.Issuer.String(), "subject %v, issuer %v", m.Subject, m.Issuer)
	r.check(m.Subject.String() == "CN="+m.Subject.CommonName, "subject %v has more than a common name", m.Subject)
	r.check(m.PublicKeyAlgorithm == x509.Ed25519, "key algorithm %v", m.PublicKeyAlgorithm)
	r.must("its signature", m.CheckSignature(m.SignatureAlgorithm, m.RawTBSCertificate, m.Signature))
	r.check(len(m.Extensions) == 1, "%d extensions, want one", len(m.Extensions))
	ext := m.Extensions[0]
	basicConstraints := asn1.ObjectIdentifier{2, 5, 29, 19}
	r.check(ext.Id.Equal(basicConstraints) && ext.Critical && !m.IsCA, "extension %v, critical %v, CA %v", ext.Id, ext.Critical, m.IsCA)
	r.check(len(m.SubjectKeyId) == 0 && len(m.AuthorityKeyId) == 0, "key identifiers present")
}

// pinned checks the rule of DERP maps: exactly one certificate besides the meta
// certificate, with this hash.
func pinned(r *run) {
	chain, err := r.relay.FetchChain(r.ctx)
	r.must("fetching the chain", err)
	connect := func(pin string) error {
		c, err := r.relay.NewClient(r.ctx, key.NewNode(), target.ClientOptions{Pin: pin})
		r.must("making a client", err)
		r.cleanup(func() { _ = c.Close() })
		return c.Connect(r.ctx)
	}
	err = connect(chain.LeafPin())
	if len(chain.Real) == 1 {
		r.must("connecting with the right pin", err)
	} else {
		r.check(err != nil, "a chain of %d satisfied a pin", len(chain.Real))
		r.notef("the chain has intermediates, which a pin does not allow")
	}
	r.check(connect("sha256-raw:"+strings.Repeat("00", 32)) != nil, "a wrong pin was accepted")
}

func oldTLS(r *run) {
	conf := r.relay.TLSConfig()
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	conn, err := r.relay.DialTLS(r.ctx, conf)
	if err == nil {
		_ = conn.Close()
		r.fatalf("TLS 1.1 was accepted")
	}
	// Any alert will do: rustls sends handshake_failure where Go sends protocol_version.
	r.check(strings.Contains(err.Error(), "remote error: tls: "), "refused with %q, want an alert", err)
	r.notef("%v", err)
}

// withoutSNI applies to relays known by address, which no client can put into a
// server name; a relay with a name refuses.
func withoutSNI(r *run) {
	conn, err := r.relay.DialTLS(r.ctx, &tls.Config{InsecureSkipVerify: true})
	if isName(r.relay.Host) {
		if err == nil {
			_ = conn.Close()
			r.notef("served although the relay has a name")
		}
		return
	}
	r.must("connecting", err)
	c := r.wrapRaw(conn)
	c.upgraded(r.request())
	c.readServerKey()
}
