package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"

	"tailscale.com/derp/derphttp"
	"tailscale.com/envknob"
	"tailscale.com/net/netmon"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// ClientOptions are the ways in which Go's client can be made to connect.
type ClientOptions struct {
	UseURL      bool // URL mode, as in a mesh, rather than region mode, as tailscaled
	IdealNode   bool // pretend that this is not the region's first node
	Mesh        bool // present the mesh key
	Watch       bool // subscribe to membership at connect
	Prober      bool
	MaxTLS12    bool   // no TLS 1.3, therefore no fast start
	Pin         string // pin this certificate instead of what the flags say
	Preferred   bool   // say so right behind the login
	CanAckPings bool
	Logf        func(format string, args ...any)
}

// RegionID and RegionCode are those of the one region that holds the target.
const (
	RegionID   = 900
	RegionCode = "test"
	NodeName   = "900a"
)

// Node is the target's entry in a DERP map. A stunPort of 0 means none.
func (t *Target) Node(stunPort int) *tailcfg.DERPNode {
	n := &tailcfg.DERPNode{
		Name:             NodeName,
		RegionID:         RegionID,
		HostName:         t.Host,
		DERPPort:         t.Port,
		STUNPort:         -1,
		IPv6:             "none",
		CertName:         t.Pin,
		InsecureForTests: t.Insecure && t.Pin == "",
	}
	ip, err := netip.ParseAddr(t.dialHost())
	switch {
	case err != nil: // a name, for the client to resolve
	case ip.Is4():
		n.IPv4 = ip.String()
	default:
		n.IPv4, n.IPv6 = "none", ip.String()
	}
	if stunPort > 0 {
		n.STUNPort = stunPort
	}
	return n
}

// Region is a region with the target as its only node.
func (t *Target) Region(stunPort int) *tailcfg.DERPRegion {
	return &tailcfg.DERPRegion{
		RegionID:   RegionID,
		RegionCode: RegionCode,
		RegionName: "Relay under test",
		Nodes:      []*tailcfg.DERPNode{t.Node(stunPort)},
	}
}

// NewClient makes one of Go's clients for the target, without connecting.
func (t *Target) NewClient(ctx context.Context, priv key.NodePrivate, o ClientOptions) (*derphttp.Client, error) {
	logf := o.Logf
	if logf == nil {
		logf = func(string, ...any) {}
	}
	roots := t.roots
	var c *derphttp.Client
	if o.UseURL || t.PlainTCP {
		var err error
		c, err = derphttp.NewClient(priv, t.BaseURL()+"/derp", logf, netmon.NewStatic())
		if err != nil {
			return nil, err
		}
		if t.Dial != "" {
			c.SetURLDialer(t.dialTCP)
		}
		if roots, err = t.clientRoots(ctx); err != nil {
			return nil, err
		}
	} else {
		region := t.clientRegion(o)
		c = derphttp.NewRegionClient(priv, logf, netmon.NewStatic(), func() *tailcfg.DERPRegion { return region })
	}
	if roots != nil || o.MaxTLS12 {
		c.TLSConfig = &tls.Config{RootCAs: roots}
		if o.MaxTLS12 {
			c.TLSConfig.MaxVersion = tls.VersionTLS12
		}
	}
	if o.Mesh {
		if t.Mesh.IsZero() {
			return nil, errors.New("no mesh key given")
		}
		c.MeshKey = t.Mesh
	}
	c.WatchConnectionChanges = o.Watch
	c.IsProber = o.Prober
	c.SetCanAckPings(o.CanAckPings)
	if o.Preferred {
		c.NotePreferred(true)
	}
	return c, nil
}

func (t *Target) clientRegion(o ClientOptions) *tailcfg.DERPRegion {
	region := t.Region(0)
	if o.Pin != "" {
		region.Nodes[0].CertName, region.Nodes[0].InsecureForTests = o.Pin, false
	}
	if o.IdealNode {
		// A first node that only answers STUN is passed over at once, so the
		// client goes to the second and names the first in its request.
		first := *region.Nodes[0]
		first.Name, first.STUNOnly = "900-ideal", true
		region.Nodes = append([]*tailcfg.DERPNode{&first}, region.Nodes...)
	}
	return region
}

// clientRoots returns roots for clients that know neither pins nor a test mode,
// or nil for the system's: a leaf that is itself a root is trusted, so it is the
// certificate that the server shows, after comparing it with the pin.
func (t *Target) clientRoots(ctx context.Context) (*x509.CertPool, error) {
	if t.PlainTCP || (!t.Insecure && t.Pin == "") {
		return t.roots, nil
	}
	chain, err := t.FetchChain(ctx)
	if err != nil {
		return nil, err
	}
	if t.Pin != "" && chain.LeafPin() != t.Pin {
		return nil, fmt.Errorf("certificate is %s, want %s", chain.LeafPin(), t.Pin)
	}
	pool := x509.NewCertPool()
	pool.AddCert(chain.Real[0])
	return pool, nil
}

// UseWebSockets makes every client made from now on in this process speak
// WebSocket, or stop doing so. It is Go's own debugging knob.
func (t *Target) UseWebSockets(ctx context.Context, on bool) error {
	if !webSocketsBuilt {
		return errors.New("this program was built without -tags ts_debug_websockets")
	}
	if on {
		roots, err := t.clientRoots(ctx)
		if err != nil {
			return err
		}
		// The WebSocket dialler uses net/http's default transport, so its
		// trust is configured there. Nodes copy that transport for their
		// control connection and do not stand a switched-off verification.
		transport := http.DefaultTransport.(*http.Transport)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		if t.Dial != "" {
			transport.DialContext = t.dialTCP
		}
	}
	envknob.Setenv("TS_DEBUG_DERP_WS_CLIENT", strconv.FormatBool(on))
	return nil
}

// HTTPClient is a client for the relay's other endpoints. It follows no
// redirects and keeps no connections.
func (t *Target) HTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   t.TLSConfig(),
			DisableKeepAlives: true,
			DialContext:       t.dialTCP,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
