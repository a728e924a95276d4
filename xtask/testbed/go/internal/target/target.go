// Package target describes the relay under test: where it listens, how its
// certificate is to be trusted, and which key opens its mesh. All commands take
// the same flags for it.
package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"tailscale.com/net/netns"
	"tailscale.com/types/key"
)

// Target is one relay. Fill it from flags with AddFlags, then call Resolve.
type Target struct {
	URL      string // http[s]://host:port, instead of Host and Port
	Host     string // name or address, as in the certificate
	Dial     string // address to connect to, if it is not Host
	Source   string // address of this machine to connect from; in URL mode only
	Port     int
	PlainTCP bool   // plain HTTP; set by an http:// URL
	CAFile   string // PEM file with additional roots
	Pin      string // sha256-raw:<hex> of the certificate
	Insecure bool   // accept any certificate
	MeshText string // 64 hex digits, or empty
	MeshFile string // file that holds them

	// DialFunc replaces the operating system's way of connecting, for relays in
	// another network namespace. It is used by all but Go's own DERP clients.
	DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

	Mesh  key.DERPMesh   // parsed from MeshText or MeshFile
	roots *x509.CertPool // from CAFile, or from what the server showed
}

// AddFlags registers the flags that fill t.
func (t *Target) AddFlags(fs *flag.FlagSet) {
	fs.StringVar(&t.URL, "url", "", "relay as http[s]://host[:port]; instead of -host and -port")
	fs.StringVar(&t.Host, "host", "127.0.0.1", "relay's name or address, as in its certificate")
	fs.StringVar(&t.Dial, "dial", "", "address to connect to, if it is not the host (no port)")
	fs.StringVar(&t.Source, "source", "", "address to connect from; Go's client only takes it in URL mode, with -dial")
	fs.IntVar(&t.Port, "port", 443, "relay's DERP port")
	fs.BoolVar(&t.PlainTCP, "plain", false, "the DERP port speaks HTTP, not HTTPS")
	fs.StringVar(&t.CAFile, "ca", "", "PEM file with roots to trust besides the system's")
	fs.StringVar(&t.Pin, "pin", "", "sha256-raw:HEX of the one certificate to accept")
	fs.BoolVar(&t.Insecure, "insecure", false, "accept any certificate")
	fs.StringVar(&t.MeshText, "mesh-key", "", "mesh key, 64 hex digits")
	fs.StringVar(&t.MeshFile, "mesh-key-file", "", "file with the mesh key")
}

// Resolve checks the flags and reads the files they name. It turns off the
// client library's socket marking, which is meant for machines whose default
// route is a tailnet and does harm on loopback.
func (t *Target) Resolve() error {
	netns.SetEnabled(false)
	if err := t.parseURL(); err != nil {
		return err
	}
	if err := t.readMeshKey(); err != nil {
		return err
	}
	if t.Pin != "" {
		hex, ok := strings.CutPrefix(t.Pin, "sha256-raw:")
		if !ok || len(hex) != 64 {
			return fmt.Errorf("-pin %q: want sha256-raw: and 64 hex digits", t.Pin)
		}
	}
	if t.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return err
	}
	t.roots = x509.NewCertPool()
	if !t.roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("-ca %s: no certificate in it", t.CAFile)
	}
	return nil
}

func (t *Target) parseURL() error {
	if t.URL == "" {
		return nil
	}
	u, err := url.Parse(t.URL)
	if err != nil {
		return fmt.Errorf("-url: %w", err)
	}
	switch u.Scheme {
	case "https":
		t.Port = 443
	case "http":
		t.PlainTCP, t.Port = true, 80
	default:
		return fmt.Errorf("-url %q: want http or https", t.URL)
	}
	t.Host = u.Hostname()
	if p := u.Port(); p != "" {
		if t.Port, err = strconv.Atoi(p); err != nil {
			return fmt.Errorf("-url: %w", err)
		}
	}
	return nil
}

func (t *Target) readMeshKey() error {
	text := t.MeshText
	if t.MeshFile != "" {
		b, err := os.ReadFile(t.MeshFile)
		if err != nil {
			return err
		}
		text = string(b)
	}
	if text == "" {
		return nil
	}
	var err error
	if t.Mesh, err = key.ParseDERPMesh(text); err != nil {
		return fmt.Errorf("mesh key: %w", err)
	}
	return nil
}

// DialAddr is the address to connect to, with port.
func (t *Target) DialAddr() string { return net.JoinHostPort(t.dialHost(), strconv.Itoa(t.Port)) }

func (t *Target) dialHost() string {
	if t.Dial != "" {
		return t.Dial
	}
	return t.Host
}

// HostHeader is what an HTTP client puts into Host: the port is left out where
// it is the scheme's own.
func (t *Target) HostHeader() string {
	if (t.PlainTCP && t.Port == 80) || (!t.PlainTCP && t.Port == 443) {
		return t.Host
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
}

// BaseURL is the relay's URL without a path.
func (t *Target) BaseURL() string {
	if t.PlainTCP {
		return "http://" + t.HostHeader()
	}
	return "https://" + t.HostHeader()
}

// TLSConfig is a configuration for connections made by hand, trusting what the
// flags say.
func (t *Target) TLSConfig() *tls.Config {
	c := &tls.Config{ServerName: t.Host, RootCAs: t.roots}
	if !t.Insecure && t.Pin == "" {
		return c
	}
	c.InsecureSkipVerify = true
	if t.Pin != "" {
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if got := certPin(cs.PeerCertificates[0]); got != t.Pin {
				return fmt.Errorf("certificate is %s, want %s", got, t.Pin)
			}
			return nil
		}
	}
	return c
}

// DialStream opens the byte stream that HTTP is spoken on: TCP, with TLS on top
// unless the target is plain.
func (t *Target) DialStream(ctx context.Context) (net.Conn, error) {
	return t.DialTLS(ctx, t.TLSConfig())
}

// DialTLS is DialStream with a TLS configuration of the caller's.
func (t *Target) DialTLS(ctx context.Context, conf *tls.Config) (net.Conn, error) {
	tcp, err := t.dialTCP(ctx, "tcp", "")
	if err != nil {
		return nil, err
	}
	if t.PlainTCP {
		return tcp, nil
	}
	conn := tls.Client(tcp, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return conn, nil
}

// dialTCP connects to the DERP port, whatever address is asked for.
func (t *Target) dialTCP(ctx context.Context, network, _ string) (net.Conn, error) {
	if t.DialFunc != nil {
		return t.DialFunc(ctx, network, t.DialAddr())
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	if t.Source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(t.Source)}
	}
	return d.DialContext(ctx, network, t.DialAddr())
}
