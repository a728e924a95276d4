// Command relaycases runs a fixed list of cases against a relay with Go's
// client, and with hand-made bytes where Go's client cannot go wrong enough.
//
// Every case is one JSON line on standard output, the last line is a summary;
// the exit status is 1 if a case failed or if the number of cases is not the
// one expected. The cases describe the reference relay's behaviour; where ours
// is deliberately stricter, the case accepts both and says which it saw.
//
// Which cases apply follows from the flags alone (a mesh key, a STUN port, a
// plain HTTP port, TLS or not), so a list is as long as its command line says
// and nothing is skipped silently. The numbers of cases never depend on flags.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/out"
	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
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

// env is what the cases share: the relay and its other ports.
type env struct {
	relay    target.Target
	stunPort int
	httpPort int
	verbose  bool
}

func main() {
	var e env
	e.relay.AddFlags(flag.CommandLine)
	flag.IntVar(&e.stunPort, "stun-port", 0, "relay's STUN port; without it no STUN cases")
	flag.IntVar(&e.httpPort, "http-port", 0, "relay's plain HTTP port; without it no cases for it")
	flag.BoolVar(&e.verbose, "v", false, "the clients' logs on standard error")
	slow := flag.Bool("slow", false, "also the cases that take a minute or more")
	noWS := flag.Bool("no-ws", false, "leave out the WebSocket cases")
	noVarz := flag.Bool("no-varz", false, "leave out the cases that read /debug/")
	only := flag.String("only", "", "run only the cases whose name matches this glob pattern")
	list := flag.Bool("list", false, "print the names of the cases that the flags select, and stop")
	expect := flag.Int("expect-cases", 0, "fail unless exactly this many cases were run")
	limit := flag.Duration("case-timeout", 20*time.Second, "for each case; slow ones take theirs")
	flag.Parse()
	out.QuietLogs(e.verbose)
	if err := e.relay.Resolve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}

	have := needs(0)
	for need, ok := range map[needs]bool{
		needTLS:      !e.relay.PlainTCP,
		needMesh:     !e.relay.Mesh.IsZero(),
		needSTUN:     e.stunPort > 0,
		needHTTPPort: e.httpPort > 0,
		needWS:       !*noWS,
		needVarz:     !*noVarz,
		needSlow:     *slow,
	} {
		if ok {
			have |= need
		}
	}

	start := time.Now()
	sum := summary{Summary: true}
	for i, c := range cases {
		if c.needs&^have != 0 {
			continue
		}
		if *only != "" {
			if ok, err := path.Match(*only, c.name); err != nil || !ok {
				continue
			}
		}
		sum.Cases++
		if *list {
			fmt.Println(c.name)
			continue
		}
		res := runCase(&e, c, *limit)
		res.N = i + 1
		if !res.OK {
			sum.Failed++
		}
		out.Line(res)
	}
	if !*list {
		sum.MS = time.Since(start).Milliseconds()
		out.Line(sum)
	}
	if *expect != 0 && sum.Cases != *expect {
		fmt.Fprintf(os.Stderr, "%d cases were selected, %d expected\n", sum.Cases, *expect)
		os.Exit(1)
	}
	if sum.Failed > 0 {
		os.Exit(1)
	}
}

func runCase(e *env, c testCase, limit time.Duration) result {
	if c.needs&needSlow != 0 {
		limit = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	start := time.Now()
	r := &run{env: e, ctx: ctx}
	err := r.execute(c.run)
	res := result{Name: c.name, OK: err == nil, Detail: r.detail, MS: time.Since(start).Milliseconds()}
	if err != nil {
		res.Detail = err.Error()
	}
	return res
}
