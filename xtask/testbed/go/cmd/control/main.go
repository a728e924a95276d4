// Command control runs a control server for real tailscaled nodes: every node
// is admitted without a key and gets the given DERP map.
//
// It prints one JSON line when it is ready and runs until it is told to stop by
// SIGINT or SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/controlplane"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"tailscale.com/tailcfg"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; nodes must be able to reach it as it is written")
	mapFile := flag.String("derp-map", "", "JSON file with the DERP map")
	verbose := flag.Bool("v", false, "logs on standard error")
	flag.Parse()
	out.QuietLogs(*verbose)
	if err := run(*listen, *mapFile, out.Logf(*verbose)); err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
		os.Exit(1)
	}
}

func run(listen, mapFile string, logf func(string, ...any)) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := os.ReadFile(mapFile)
	if err != nil {
		return fmt.Errorf("-derp-map: %w", err)
	}
	var derpMap tailcfg.DERPMap
	if err := json.Unmarshal(text, &derpMap); err != nil {
		return fmt.Errorf("-derp-map %s: %w", mapFile, err)
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	url := controlplane.Serve(ln, &derpMap, logf)
	out.Line(map[string]any{"ready": true, "url": url, "regions": len(derpMap.Regions)})
	<-ctx.Done()
	return nil
}
