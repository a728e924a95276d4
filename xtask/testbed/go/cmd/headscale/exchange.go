package main

import (
	"context"
	"fmt"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/recording"
)

// recorder asks one server and writes down what it answers.
type recorder struct {
	*server
	recording.Recording
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
	return r.Ask(ctx, "tcp", r.addr, name, request, append(r.authKeys, r.apiKey)...)
}
