package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// patience is how long a case waits for something that must happen, grace how
// long it watches that something does not.
const (
	patience = 5 * time.Second
	grace    = 150 * time.Millisecond
)

// run is one case being run. Its methods fail the case by panicking with a
// failure, as testing.T does with Goexit, so cases read as stories; they must
// be called from the case's own goroutine.
type run struct {
	*env
	ctx      context.Context
	detail   string
	cleanups []func()
}

type failure struct{ text string }

func (r *run) execute(story func(*run)) (err error) {
	defer func() {
		for i := len(r.cleanups) - 1; i >= 0; i-- {
			r.cleanups[i]()
		}
	}()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", p.text)
		default:
			panic(p)
		}
	}()
	story(r)
	return nil
}

// cleanup runs f after the case, last registered first.
func (r *run) cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// fatalf fails the case.
func (r *run) fatalf(format string, args ...any) {
	panic(failure{fmt.Sprintf(format, args...)})
}

// must fails the case if err is not nil.
func (r *run) must(what string, err error) {
	if err != nil {
		r.fatalf("%s: %v", what, err)
	}
}

// check fails the case unless ok.
func (r *run) check(ok bool, format string, args ...any) {
	if !ok {
		r.fatalf(format, args...)
	}
}

// notef adds to the detail that is reported with a passed case.
func (r *run) notef(format string, args ...any) {
	r.detail = strings.TrimPrefix(r.detail+"; "+fmt.Sprintf(format, args...), "; ")
}

// eventually calls f until it returns an empty string, which says what is still
// wrong. It is for state that no message announces.
func (r *run) eventually(f func() string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		wrong := f()
		if wrong == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.fatalf("still after %v: %s", patience, wrong)
		case <-r.ctx.Done():
			r.fatalf("out of time: %s", wrong)
		}
	}
}
