package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// exchange is a request and its answer as they were on the wire, but for the
// secrets in them, which have become as many x.
type exchange struct {
	Name    string `json:"name"`
	Request string `json:"request"`
	Answer  string `json:"answer"`
}

// recorder asks one server and writes down what it answers.
type recorder struct {
	*server
	exchanges []exchange
}

func (r *recorder) verify(ctx context.Context, name, body string) error {
	head := fmt.Sprintf("POST /verify HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", r.addr, len(body))
	return r.ask(ctx, name, head+body)
}

func (r *recorder) get(ctx context.Context, name, path, apiKey string) error {
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n", path, r.addr)
	if apiKey != "" {
		request += "Authorization: Bearer " + apiKey + "\r\n"
	}
	return r.ask(ctx, name, request+"\r\n")
}

func (r *recorder) ask(ctx context.Context, name, request string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", r.addr)
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
	r.exchanges = append(r.exchanges, exchange{name, r.withoutSecrets(request), r.withoutSecrets(raw.String())})
	return nil
}

// withoutSecrets leaves all lengths as they are: answers may come in chunks.
func (r *recorder) withoutSecrets(text string) string {
	for _, secret := range append(r.authKeys, r.apiKey) {
		text = strings.ReplaceAll(text, secret, strings.Repeat("x", len(secret)))
	}
	return text
}
