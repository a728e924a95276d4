// Command admission finds out whom a relay admits, with a tailnet of real
// nodes: a control server, a tailscaled as it stands beside a relay, and nodes
// whose keys clients then come with.
//
// Every case is one JSON line on standard output, the last line is a summary;
// the exit status is 1 if a case failed or if the number of cases is not the
// one expected. With -go it keeps to what Go's relay can do.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
)

type result struct {
	N      int    `json:"n"`
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
	MS     int64  `json:"ms"`
}

type summary struct {
	Summary bool  `json:"summary"`
	Cases   int   `json:"cases"`
	Failed  int   `json:"failed"`
	MS      int64 `json:"ms"`
}

// runner numbers cases and reports them.
type runner struct {
	summary
	only string
	n    int
}

func main() {
	var l lab
	var r runner
	home, _ := os.UserHomeDir()
	flag.StringVar(&l.relay, "relay", "derper", "the relay's program")
	flag.BoolVar(&l.goRelay, "go", false, "the relay knows Go's flags only")
	flag.StringVar(&l.bin, "bin", filepath.Join(home, "go/bin"), "folder of tailscale and tailscaled")
	flag.StringVar(&l.recordings, "recordings", "verify/tests/recordings", "folder of what Headscale servers answered")
	flag.StringVar(&l.docs, "docs", "docs", "folder of the pages that are followed")
	flag.StringVar(&r.only, "only", "", "only the cases whose names contain this; of a backend, all or none")
	recordTo := flag.String("record", "", "in place of all cases, write down what the tailscaled answers to this file")
	expect := flag.Int("expect-cases", 0, "fail unless exactly this many cases were run")
	verbose := flag.Bool("v", false, "the nodes' logs on standard error")
	timeout := flag.Duration("timeout", 10*time.Minute, "for everything")
	flag.Parse()
	out.QuietLogs(*verbose)
	members.Prepare()
	l.logf = out.Logf(*verbose)
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	start := time.Now()
	var err error
	if *recordTo != "" {
		err = record(ctx, &l, *recordTo)
	} else if err = openLab(ctx, &l); err == nil {
		r.all(ctx, &l)
	}
	l.close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "admission:", err)
		os.Exit(2)
	}
	if *recordTo != "" {
		return
	}
	r.Summary, r.MS = true, time.Since(start).Milliseconds()
	out.Line(r.summary)
	if *expect != 0 && r.Cases != *expect {
		fmt.Fprintf(os.Stderr, "%d cases were run, %d expected\n", r.Cases, *expect)
		os.Exit(1)
	}
	if r.Failed > 0 {
		os.Exit(1)
	}
}

func (r *runner) all(ctx context.Context, l *lab) {
	backends := goBackends
	if !l.goRelay {
		backends = append(backends, ourBackends...)
	}
	for _, b := range backends {
		r.backend(ctx, l, b)
	}
	for _, c := range tailnetCases {
		if l.goRelay && c.ours {
			continue
		}
		r.one(c.name, func() (string, error) { return c.run(ctx, l) })
	}
}

func (r *runner) backend(ctx context.Context, l *lab, b backend) {
	if !strings.Contains(b.name+": ", r.only) {
		r.n += len(stories)
		return
	}
	var a *act
	var broken error
	for _, story := range stories {
		r.run(b.name+": "+story.name, func() (string, error) {
			if a == nil && broken == nil {
				a, broken = begin(ctx, l, b)
			}
			if broken != nil {
				return "", broken
			}
			detail, err := story.tell(ctx, a)
			if err != nil {
				broken = fmt.Errorf("after what went wrong before")
				err = fmt.Errorf("%w; the relay's log:\n%s", err, a.program.Log())
			}
			return detail, err
		})
	}
	if a != nil {
		a.close()
	}
}

// one runs a case that stands alone.
func (r *runner) one(name string, f func() (string, error)) {
	if !strings.Contains(name, r.only) {
		r.n++
		return
	}
	r.run(name, f)
}

func (r *runner) run(name string, f func() (string, error)) {
	r.n++
	r.Cases++
	start := time.Now()
	detail, err := f()
	if err != nil {
		r.Failed++
		detail = err.Error()
	}
	out.Line(result{N: r.n, Name: name, OK: err == nil, Detail: detail, MS: time.Since(start).Milliseconds()})
}
