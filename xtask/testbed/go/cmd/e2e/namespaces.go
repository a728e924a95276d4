package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The testbed's addresses. The relay has one address that both nodes reach
// through their own link; nothing forwards between the links.
const (
	relayIP = "10.77.0.1"
	aGate   = "10.77.1.1"
	aIP     = "10.77.1.2"
	bGate   = "10.77.2.1"
	bIP     = "10.77.2.2"
)

// namespaces are three network namespaces: the two nodes' and the relay's.
type namespaces struct{ relay, a, b string }

// etcNetns holds the files that `ip netns exec` puts over those in /etc.
const etcNetns = "/etc/netns"

// namesOf gives the namespaces of the testbed that process pid makes.
func namesOf(pid int) namespaces {
	p := "derpkit-" + strconv.Itoa(pid)
	return namespaces{relay: p + "-r", a: p + "-a", b: p + "-b"}
}

func (n namespaces) all() []string { return []string{n.relay, n.a, n.b} }

// makeNamespaces sets up the testbed. Host is a name for the relay that the
// nodes must resolve, or empty.
func makeNamespaces(ctx context.Context, host string) (namespaces, error) {
	sweep()
	n := namesOf(os.Getpid())
	for _, name := range n.all() {
		if err := n.ip(ctx, "", "netns", "add", name); err != nil {
			return n, err
		}
		if err := n.ip(ctx, name, "link", "set", "lo", "up"); err != nil {
			return n, err
		}
		if err := inNamespace(name, noForwarding); err != nil {
			return n, fmt.Errorf("namespace %s: %w", name, err)
		}
		if err := writeEtc(name, host); err != nil {
			return n, err
		}
	}
	for _, step := range []struct{ ns, args string }{
		{n.relay, "addr add " + relayIP + "/32 dev lo"},
		{n.relay, "link add a0 type veth peer name eth0 netns " + n.a},
		{n.relay, "link add b0 type veth peer name eth0 netns " + n.b},
		{n.relay, "addr add " + aGate + "/24 dev a0"},
		{n.relay, "addr add " + bGate + "/24 dev b0"},
		{n.relay, "link set a0 up"},
		{n.relay, "link set b0 up"},
		{n.a, "addr add " + aIP + "/24 dev eth0"},
		{n.a, "link set eth0 up"},
		{n.a, "route add default via " + aGate},
		{n.b, "addr add " + bIP + "/24 dev eth0"},
		{n.b, "link set eth0 up"},
		{n.b, "route add default via " + bGate},
	} {
		if err := n.ip(ctx, step.ns, strings.Fields(step.args)...); err != nil {
			return n, err
		}
	}
	return n, nil
}

// writeEtc makes the files that processes in the namespace see in /etc. There
// is no name server, and questions to one must fail at once.
func writeEtc(name, host string) error {
	dir := filepath.Join(etcNetns, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost\n"
	if host != "" {
		hosts += relayIP + " " + host + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644)
}

// noForwarding makes sure that the relay's namespace is no router, for then the
// nodes would find a direct path. The file is that of the namespace of whoever
// opens it.
func noForwarding() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0)
}

func (n namespaces) ip(ctx context.Context, ns string, args ...string) error {
	if ns != "" {
		args = append([]string{"-n", ns}, args...)
	}
	text, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(text)))
	}
	return nil
}

// remove deletes the namespaces, and with them the links between them. Their
// processes must have ended.
func (n namespaces) remove() error {
	var all []error
	for _, name := range n.all() {
		if _, err := os.Stat(filepath.Join("/run/netns", name)); err == nil {
			all = append(all, n.ip(context.Background(), "", "netns", "del", name))
		}
		all = append(all, os.RemoveAll(filepath.Join(etcNetns, name)))
	}
	// This only succeeds if nobody else's files are in it, as it should.
	_ = os.Remove(etcNetns)
	return errors.Join(all...)
}

var ourName = regexp.MustCompile(`^derpkit-(\d+)-[abr]$`)

// sweep removes what an earlier run left behind that was killed without being
// asked. A testbed is such a leftover if the process in its name is gone.
func sweep() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // no namespace was ever made here
	}
	for _, e := range entries {
		m := ourName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		pid, err := strconv.Atoi(m[1])
		if err != nil || unix.Kill(pid, 0) != unix.ESRCH {
			continue
		}
		// What cannot be removed hurts nobody: names are not used again.
		_ = namesOf(pid).remove()
		dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirOf(pid)))
		for _, dir := range dirs {
			_ = os.RemoveAll(dir)
		}
	}
}

// dirOf is the pattern of the folder that process pid works in.
func dirOf(pid int) string { return "derpkit-e2e-" + strconv.Itoa(pid) + "-*" }

// inNamespace runs f on a thread inside the network namespace. Sockets that f
// opens belong to the namespace for good.
func inNamespace(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread must end with this goroutine rather than
		// return to the scheduler in the wrong namespace.
		runtime.LockOSThread()
		done <- func() error {
			ns, err := os.Open(filepath.Join("/run/netns", name))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering namespace %s: %w", name, err)
			}
			return f()
		}()
	}()
	return <-done
}

// dialIn returns a function that connects from inside the namespace. Addresses
// must be literal: a resolver would run on other threads.
func dialIn(name string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = inNamespace(name, func() error {
			var d net.Dialer
			c, err = d.DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
}
