// Package varz reads a relay's counters from /debug/varz.
package varz

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Counters maps a series, labels included as they are written, to its value.
type Counters map[string]float64

// Fetch reads the counters of the relay at base, a URL without a path.
func Fetch(ctx context.Context, c *http.Client, base string) (Counters, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/debug/varz", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/debug/varz answered %s", resp.Status)
	}
	return Parse(resp.Body)
}

// Parse reads the text exposition format, without timestamps, which relays do
// not write.
func Parse(r io.Reader) (Counters, error) {
	out := Counters{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		// Label values may hold spaces; the value after the last one cannot.
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("line without a value: %q", line)
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		out[line[:i]] = v
	}
	return out, lines.Err()
}

// Sum adds up all series of the metric name, whatever their labels.
func (c Counters) Sum(name string) float64 {
	var sum float64
	for series, v := range c {
		if series == name || strings.HasPrefix(series, name+"{") {
			sum += v
		}
	}
	return sum
}

// Flow is what a relay did with packets and their bytes.
type Flow struct {
	PacketsReceived  int64 `json:"packets_received"`
	PacketsSent      int64 `json:"packets_sent"`
	PacketsDropped   int64 `json:"packets_dropped"`
	PacketsForwarded int64 `json:"packets_forwarded_out"`
	PacketsFromMesh  int64 `json:"packets_forwarded_in"`
	BytesReceived    int64 `json:"bytes_received"`
	BytesSent        int64 `json:"bytes_sent"`
	BytesDropped     int64 `json:"bytes_dropped"`
}

// Flow picks the counters of packets out of c.
func (c Counters) Flow() Flow {
	return Flow{
		PacketsReceived:  int64(c.Sum("derp_packets_received")),
		PacketsSent:      int64(c.Sum("derp_packets_sent")),
		PacketsDropped:   int64(c.Sum("derp_packets_dropped")),
		PacketsForwarded: int64(c.Sum("derp_packets_forwarded_out")),
		PacketsFromMesh:  int64(c.Sum("derp_packets_forwarded_in")),
		BytesReceived:    int64(c.Sum("derp_bytes_received")),
		BytesSent:        int64(c.Sum("derp_bytes_sent")),
		BytesDropped:     int64(c.Sum("derp_bytes_dropped")),
	}
}

// Since is what happened between before and f.
func (f Flow) Since(before Flow) Flow {
	return Flow{
		PacketsReceived:  f.PacketsReceived - before.PacketsReceived,
		PacketsSent:      f.PacketsSent - before.PacketsSent,
		PacketsDropped:   f.PacketsDropped - before.PacketsDropped,
		PacketsForwarded: f.PacketsForwarded - before.PacketsForwarded,
		PacketsFromMesh:  f.PacketsFromMesh - before.PacketsFromMesh,
		BytesReceived:    f.BytesReceived - before.BytesReceived,
		BytesSent:        f.BytesSent - before.BytesSent,
		BytesDropped:     f.BytesDropped - before.BytesDropped,
	}
}

// Lost is how many packets came in and are accounted for nowhere. Packets that
// are still in a queue count as lost, so ask again until it is zero.
func (f Flow) Lost() int64 {
	return f.PacketsReceived + f.PacketsFromMesh - f.PacketsSent - f.PacketsForwarded - f.PacketsDropped
}
