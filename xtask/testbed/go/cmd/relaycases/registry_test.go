package main

import "testing"

// A runner counts the cases and finds them by name.
func TestEveryCaseHasItsOwnName(t *testing.T) {
	seen := map[string]int{}
	for i, c := range cases {
		if j, ok := seen[c.name]; ok {
			t.Errorf("cases %d and %d are both called %s", j+1, i+1, c.name)
		}
		seen[c.name] = i
	}
}

func TestACaseFailsByItsFirstFailureAndStillCleansUp(t *testing.T) {
	var cleaned []int
	r := &run{}
	err := r.execute(func(r *run) {
		r.cleanup(func() { cleaned = append(cleaned, 1) })
		r.cleanup(func() { cleaned = append(cleaned, 2) })
		r.check(true, "not this")
		r.check(false, "but %s", "this")
		t.Error("went on after a failure")
	})
	if err == nil || err.Error() != "but this" {
		t.Errorf("error is %v", err)
	}
	if len(cleaned) != 2 || cleaned[0] != 2 {
		t.Errorf("cleaned up in the order %v", cleaned)
	}
}
