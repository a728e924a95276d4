package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/recording"
	"tailscale.com/types/key"
)

// record writes down what a tailscaled answers a relay: while it is logged out,
// when it runs, and when it has started again and has not heard from its
// control server yet.
func record(ctx context.Context, l *lab, file string) error {
	version, err := versionOf(ctx, l.bin)
	if err != nil {
		return err
	}
	if l.dir, err = os.MkdirTemp("", "derpkit-admission-"); err != nil {
		return err
	}
	if l.net, err = l.tailnet("recorded"); err != nil {
		return err
	}
	t := l.net
	keys := map[string]key.NodePublic{"stranger": key.NewNode().Public()}
	for _, name := range []string{"laptop", "hidden"} {
		n, err := t.node(ctx, name)
		if err != nil {
			return err
		}
		keys[name] = n.Public()
	}
	t.hidden["hidden"] = true
	r := recording.Recording{
		Server:     "tailscaled " + version,
		RecordedBy: "xtask/testbed/go/cmd/admission -record",
		Nodes:      map[string]string{},
	}
	ask := func(name, target string) error {
		request := fmt.Sprintf("GET /localapi/v0/%s HTTP/1.1\r\nHost: local-tailscaled.sock\r\nTailscale-Cap: 145\r\n\r\n", target)
		return r.Ask(ctx, "unix", t.socket(), name, request)
	}
	whois := func(name, state string) error {
		return ask(state+"whois_"+name, "whois?addr="+strings.ReplaceAll(keys[name].String(), ":", "%3A"))
	}
	all := func(state string) error {
		return errors.Join(
			whois("laptop", state), whois("stranger", state),
			ask(state+"status", "status"), ask(state+"status_own", "status?peers=false"),
		)
	}

	if err := t.launchDaemon(ctx); err != nil {
		return err
	}
	if err := all("logged_out/"); err != nil {
		return err
	}
	t.daemon.Stop()
	if err := t.startDaemon(ctx); err != nil {
		return err
	}
	keys["own"] = t.daemonKey.Public()
	// So that what is recorded is what it was told.
	err = t.daemon.Await(ctx, func() error {
		text, err := t.cli(ctx, "status", "--json")
		return errors.Join(err, t.isAsTold(text))
	})
	if err != nil {
		return err
	}
	if err := errors.Join(all(""), whois("own", ""), whois("hidden", "")); err != nil {
		return err
	}
	t.daemon.Kill()
	t.closeControl()
	if err := t.launchDaemon(ctx); err != nil {
		return err
	}
	if err := errors.Join(all("starting/"), whois("own", "starting/")); err != nil {
		return err
	}
	for name, k := range keys {
		r.Nodes[name] = k.String()
	}
	return r.Write(file)
}

// versionOf is what a tailscaled says that it is.
func versionOf(ctx context.Context, bin string) (string, error) {
	text, err := programs.Output(ctx, nil, filepath.Join(bin, "tailscaled"), "--version")
	line, _, _ := strings.Cut(text, "\n")
	return line, err
}
