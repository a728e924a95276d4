// Package controlplane is the control server of a made-up tailnet: it admits
// every node and gives all of them the same DERP map.
package controlplane

import (
	"net"
	"net/http"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/logger"
)

// Map is a DERP map with one region and none of the public ones.
func Map(region *tailcfg.DERPRegion) *tailcfg.DERPMap {
	return &tailcfg.DERPMap{
		OmitDefaultRegions: true,
		Regions:            map[int]*tailcfg.DERPRegion{region.RegionID: region},
	}
}

// Serve serves a control server on ln until ln is closed, and returns its URL
// at once.
func Serve(ln net.Listener, derpMap *tailcfg.DERPMap, logf logger.Logf) (url string) {
	return Start(ln, derpMap, logf).ExplicitBaseURL
}

// Start is Serve for those who want to tell nodes things.
func Start(ln net.Listener, derpMap *tailcfg.DERPMap, logf logger.Logf) *testcontrol.Server {
	s := &testcontrol.Server{
		DERPMap:         derpMap,
		DNSConfig:       &tailcfg.DNSConfig{Proxied: true},
		MagicDNSDomain:  "tailnet.test",
		ExplicitBaseURL: "http://" + ln.Addr().String(),
		Logf:            logf,
		AllOnline:       true,
	}
	// Ends with an error when ln is closed, which is how it is meant to end.
	go func() { _ = http.Serve(ln, s) }()
	return s
}
