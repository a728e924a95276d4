package main

import (
	"context"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/programs"
)

// startIn starts a program in a namespace, from the main goroutine; threads that
// enter namespaces themselves are others, and do end. `ip netns exec` replaces
// itself by the program, so the process id is the program's own.
func startIn(ns, name, dir string, env []string, argv ...string) (*programs.Program, error) {
	return programs.Start(name, dir, env, in(ns, argv)...)
}

// output runs a program in a namespace to its end, and returns what it wrote to
// standard output.
func output(ctx context.Context, ns string, argv ...string) (string, error) {
	return programs.Output(ctx, nil, in(ns, argv)...)
}

func in(ns string, argv []string) []string {
	return append([]string{"ip", "netns", "exec", ns}, argv...)
}
