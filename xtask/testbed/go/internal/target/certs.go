package target

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"go4.org/mem"
	"tailscale.com/derp/derpconst"
	"tailscale.com/types/key"
)

// Chain is what a relay showed in its TLS handshake, sorted by purpose.
type Chain struct {
	Version uint16              // TLS version
	Real    []*x509.Certificate // the leaf and its intermediates
	Meta    *x509.Certificate   // the certificate that carries the DERP key, or nil
	MetaKey key.NodePublic      // the key in it
}

// FastStart says whether Go's client starts without waiting for the server's
// greeting on a connection with this chain; the rule is parseMetaCert and its
// caller in derp/derphttp/derphttp_client.go.
func (c Chain) FastStart() bool {
	return c.Version >= tls.VersionTLS13 && c.Meta != nil && !c.MetaKey.IsZero() &&
		c.Meta.SerialNumber.BitLen() <= 8 && c.Meta.SerialNumber.Sign() != 0
}

// ReadChain sorts the certificates of a finished handshake.
func ReadChain(cs *tls.ConnectionState) (Chain, error) {
	c := Chain{Version: cs.Version}
	for i, cert := range cs.PeerCertificates {
		hex, ok := strings.CutPrefix(cert.Subject.CommonName, derpconst.MetaCertCommonNamePrefix)
		if !ok {
			c.Real = append(c.Real, cert)
			continue
		}
		if i != len(cs.PeerCertificates)-1 {
			return c, fmt.Errorf("the meta certificate is number %d of %d, not the last", i+1, len(cs.PeerCertificates))
		}
		k, err := key.ParseNodePublicUntyped(mem.S(hex))
		if err != nil {
			return c, fmt.Errorf("key in the meta certificate's name: %w", err)
		}
		c.Meta, c.MetaKey = cert, k
	}
	if len(c.Real) == 0 {
		return c, fmt.Errorf("no certificate besides the meta certificate")
	}
	return c, nil
}

// FetchChain connects, whatever the certificate, and returns what was shown.
func (t *Target) FetchChain(ctx context.Context) (Chain, error) {
	conf := &tls.Config{ServerName: t.Host, InsecureSkipVerify: true}
	conn, err := t.DialTLS(ctx, conf)
	if err != nil {
		return Chain{}, err
	}
	defer conn.Close()
	cs := conn.(*tls.Conn).ConnectionState()
	return ReadChain(&cs)
}

// certPin is the form in which a DERP map pins a certificate.
func certPin(c *x509.Certificate) string {
	return fmt.Sprintf("sha256-raw:%02x", sha256.Sum256(c.Raw))
}

// LeafPin is the pin of the chain's leaf.
func (c Chain) LeafPin() string { return certPin(c.Real[0]) }
