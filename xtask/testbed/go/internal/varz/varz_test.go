package varz

import (
	"strings"
	"testing"
)

const sample = `# HELP derp_packets_dropped counter
# TYPE derp_packets_dropped counter
derp_packets_dropped{reason="queue_head",kind="other"} 3
derp_packets_dropped{reason="unknown_dest",kind="disco"} 4
derp_packets_dropped_elsewhere 100
derp_packets_received 10
derp_packets_sent 2

version{version="1 2 3",binary="derper"} 1
derp_average_queue_duration_ms 1.5e-3
`

func TestSeriesAreSummedByName(t *testing.T) {
	c, err := Parse(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"derp_packets_dropped": 7, "derp_packets_received": 10, "version": 1,
		"derp_average_queue_duration_ms": 0.0015, "absent": 0,
	} {
		if got := c.Sum(name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	if got := c.Flow().Lost(); got != 1 {
		t.Errorf("lost = %d, want 1", got)
	}
}

func TestALineWithoutANumberIsAnError(t *testing.T) {
	for _, text := range []string{"derp_accepts", "derp_accepts many"} {
		if c, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%q gave %v", text, c)
		}
	}
}

func TestAFlowIsADifference(t *testing.T) {
	before := Flow{1, 2, 3, 4, 5, 6, 7, 8}
	after := Flow{10, 20, 30, 40, 50, 60, 70, 80}
	if got, want := after.Since(before), (Flow{9, 18, 27, 36, 45, 54, 63, 72}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
