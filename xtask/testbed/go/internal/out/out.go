// Package out writes reports as JSON lines.
//
// The runner that starts these commands reads their standard output and
// nothing else, so every line there is one JSON object; logs for people go to
// standard error and only when asked for.
package out

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
)

var (
	mu  sync.Mutex
	enc = json.NewEncoder(os.Stdout)
)

// Line writes v as one line of JSON. It may be called from several goroutines.
func Line(v any) {
	mu.Lock()
	defer mu.Unlock()
	if err := enc.Encode(v); err != nil {
		// The reader is gone (or v cannot be encoded, a bug): nobody is left
		// to report to, and going on would only leave an orphan behind.
		fmt.Fprintf(os.Stderr, "writing a report line: %v\n", err)
		os.Exit(3)
	}
}

// QuietLogs sends the standard logger, which the imported packages write to,
// to standard error if verbose is set and nowhere otherwise.
func QuietLogs(verbose bool) {
	if verbose {
		log.SetOutput(os.Stderr)
		return
	}
	log.SetOutput(io.Discard)
}

// Logf returns a log function for the clients that want one, following the
// same rule as QuietLogs.
func Logf(verbose bool) func(format string, args ...any) {
	if verbose {
		return log.Printf
	}
	return func(string, ...any) {}
}
