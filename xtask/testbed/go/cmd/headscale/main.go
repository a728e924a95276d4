// Command headscale does things with a real Headscale server, whose program
// must be on this machine already.
//
//	headscale record -headscale PROGRAM -version TEXT -out FILE
//
// writes down what it answers about nodes of every kind;
//
//	headscale relay -headscale PROGRAM -relay PROGRAM
//
// puts a relay of ours beside it, and has nodes come and go;
//
//	headscale policy -headscale PROGRAM -docs FOLDER
//
// gives it the policies of docs/private-relay.md, and looks whom the relay's
// node then sees.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "headscale: want record, relay or policy")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	program := flags.String("headscale", "headscale", "the server's program")
	version := flags.String("version", "", "what to write down as its version")
	file := flags.String("out", "", "file for what was recorded")
	relay := flags.String("relay", "derper", "the relay's program, ours")
	docs := flags.String("docs", "docs", "folder of the pages whose policies are tried")
	verbose := flags.Bool("v", false, "the nodes' logs on standard error")
	timeout := flags.Duration("timeout", 3*time.Minute, "for everything")
	if err := flags.Parse(os.Args[2:]); err != nil {
		os.Exit(2)
	}
	out.QuietLogs(*verbose)
	members.Prepare()
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	var err error
	switch os.Args[1] {
	case "record":
		err = record(ctx, *program, *version, *file, out.Logf(*verbose))
	case "relay":
		err = relayBeside(ctx, *program, *relay, out.Logf(*verbose))
	case "policy":
		err = tryPolicies(ctx, *program, *docs, out.Logf(*verbose))
	default:
		err = fmt.Errorf("%q: want record, relay or policy", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "headscale:", err)
		os.Exit(1)
	}
}
