package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/recording"
)

// recorded is what a real Headscale server answered.
type recorded struct {
	exchanges map[string]answer
	node      map[string]any // as its list has one
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func readRecording(file string) (*recorded, error) {
	recording, err := recording.Read(file)
	if err != nil {
		return nil, err
	}
	r := &recorded{exchanges: map[string]answer{}}
	for _, e := range recording.Exchanges {
		resp, body, err := e.Response()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		r.exchanges[e.Name] = answer{resp.StatusCode, resp.Header, body}
	}
	var list struct{ Nodes []map[string]any }
	if err := json.Unmarshal(r.exchanges["nodes"].body, &list); err != nil || len(list.Nodes) == 0 {
		return nil, fmt.Errorf("%s: no list of nodes: %v", file, err)
	}
	r.node = list.Nodes[0]
	return r, nil
}

// send answers as the server did.
func (a answer) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.Header().Del("Date")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// list is the server's answer with nodes of other keys.
func (r *recorded) list(keys []string) (answer, error) {
	nodes := make([]map[string]any, 0, len(keys))
	for i, key := range keys {
		node := maps.Clone(r.node)
		node["id"], node["nodeKey"] = fmt.Sprint(i+1), key
		nodes = append(nodes, node)
	}
	body, err := json.Marshal(map[string]any{"nodes": nodes})
	a := r.exchanges["nodes"]
	a.body = body
	return a, err
}
