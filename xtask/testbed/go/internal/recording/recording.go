// Package recording writes down what servers answer, byte for byte, and reads
// it again.
package recording

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Recording is what a file of recordings holds.
type Recording struct {
	Server     string            `json:"server"` // program and version
	RecordedOn string            `json:"recorded_on"`
	RecordedBy string            `json:"recorded_by"`
	Nodes      map[string]string `json:"nodes"` // whose keys there are
	Exchanges  []Exchange        `json:"exchanges"`
}

// Exchange is a request and its answer as they were on the wire, but for the
// secrets in them, which have become as many x.
type Exchange struct {
	Name    string `json:"name"`
	Request string `json:"request"`
	Answer  string `json:"answer"`
}

// Ask sends a request over a connection of its own, and adds the exchange.
func (r *Recording) Ask(ctx context.Context, network, addr, name, request string, secrets ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, request); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var raw bytes.Buffer
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &raw)), &http.Request{Method: method})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	answer := raw.String()
	for _, secret := range secrets {
		// The length stays as it is: answers may come in chunks.
		hidden := strings.Repeat("x", len(secret))
		request, answer = strings.ReplaceAll(request, secret, hidden), strings.ReplaceAll(answer, secret, hidden)
	}
	r.Exchanges = append(r.Exchanges, Exchange{name, request, answer})
	return nil
}

// Write writes the recording to a file, as made today.
func (r *Recording) Write(file string) error {
	r.RecordedOn = time.Now().UTC().Format(time.DateOnly)
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// Read reads a recording.
func Read(file string) (*Recording, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(Recording)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// Response is an answer, parsed, and its body.
func (e Exchange) Response() (*http.Response, []byte, error) {
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(e.Answer)), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", e.Name, err)
	}
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}
