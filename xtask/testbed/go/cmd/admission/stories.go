package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/varz"
	"tailscale.com/types/key"
)

// act is a relay with one backend, which its stories share, in their order.
type act struct {
	*stage
	backend
	source source
}

// patience is how long something that must happen may take on a busy machine,
// beyond what it takes.
const patience = 10 * time.Second

// stories are told of each backend.
var stories = []struct {
	name string
	tell func(context.Context, *act) (detail string, err error)
}{
	{"three members in, a stranger out", threeIn},
	{"a node added later comes in", addedLater},
	{"a removed node goes out", removed},
	{"the source dies", sourceDies},
	{"the source comes back", sourceComesBack},
}

func begin(ctx context.Context, l *lab, b backend) (*act, error) {
	dir, err := l.folder()
	if err != nil {
		return nil, err
	}
	source, flags, err := b.prepare(l, dir)
	if err != nil {
		return nil, err
	}
	for name, member := range map[string]bool{"a": true, "b": true, "c": true, "d": false} {
		if err := source.set(ctx, l.node(name), member); err != nil {
			return nil, err
		}
	}
	stage, err := l.run(ctx, flags...)
	if err != nil {
		return nil, err
	}
	return &act{stage, b, source}, nil
}

func threeIn(ctx context.Context, a *act) (string, error) {
	// A tailscaled learns of its nodes a moment after it was told of them.
	var slowest time.Duration
	for _, name := range []string{"a", "b", "c"} {
		took, err := a.enterWithin(ctx, a.node(name), patience)
		if err != nil {
			return "", err
		}
		slowest = max(slowest, took)
	}
	err := errors.Join(
		a.isOut(ctx, "a stranger", key.NewNode()),
		a.isOut(ctx, "a node that is no member yet", a.node("d").Private),
		a.stay(ctx, a.node("a"), a.node("b"), a.node("c")),
	)
	if err == nil && a.ownKey {
		if err = a.isOut(ctx, "the relay's own node", a.net.daemonKey); err != nil {
			return "the relay's own node too", nil
		}
		err = errors.New("the relay's own node was turned away")
	}
	return "", err
}

func addedLater(ctx context.Context, a *act) (string, error) {
	if err := a.source.set(ctx, a.node("d"), true); err != nil {
		return "", err
	}
	took, err := a.enterWithin(ctx, a.node("d"), time.Second+a.slack+patience)
	return fmt.Sprintf("after %d ms", took.Milliseconds()), err
}

func removed(ctx context.Context, a *act) (string, error) {
	c := a.node("c")
	if err := a.source.set(ctx, c, false); err != nil {
		return "", err
	}
	start := time.Now()
	if a.byGo {
		// It stays for as long as it likes, but does not come again.
		for a.isOut(ctx, "a removed node", c.Private) != nil {
			if time.Since(start) > patience {
				return "", errors.New("a removed node still comes in")
			}
		}
		if err := a.stay(ctx, c); err != nil {
			return "", err
		}
		a.leave(c)
		return "when it reconnects", a.isOut(ctx, "a removed node", c.Private)
	}
	select {
	case <-a.inside["c"].Gone():
	case <-time.After(interval + a.slack + patience):
		return "", errors.New("it is still connected")
	}
	detail := fmt.Sprintf("after %d ms", time.Since(start).Milliseconds())
	delete(a.inside, "c")
	return detail, errors.Join(
		a.isOut(ctx, "a removed node", c.Private),
		a.stay(ctx, a.node("a"), a.node("b"), a.node("d")),
	)
}

func sourceDies(ctx context.Context, a *act) (string, error) {
	if err := a.source.kill(); err != nil {
		return "", err
	}
	if err := a.awaitNotice(ctx); err != nil {
		return "", err
	}
	if err := a.stay(ctx, a.node("a"), a.node("b"), a.node("d")); err != nil {
		return "", err
	}
	stranger := a.isOut(ctx, "a stranger", key.NewNode())
	a.leave(a.node("b"))
	back := a.enter(ctx, a.node("b"))
	switch {
	case a.failOpen:
		if stranger == nil {
			return "", errors.New("a stranger was turned away, though the source is not there")
		}
		return "everybody comes in", back
	case a.byGo:
		if back == nil {
			return "", errors.New("a member came in without being asked about")
		}
		return "nobody comes in", stranger
	default:
		return "members come back", errors.Join(stranger, back)
	}
}

// awaitNotice waits until the relay has had reason to notice that the source is
// dead: it has read a file again, or asked again about all who are connected,
// twice, so that no question from before is among those.
func (a *act) awaitNotice(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, interval+a.slack+patience)
	defer cancel()
	if a.byGo {
		return nil // it asks when clients come
	}
	if a.keepsLast {
		return a.program.Await(ctx, func() error {
			if !strings.Contains(a.program.Log(), "the old list of keys stays") {
				return errors.New("the log does not complain of the file")
			}
			return nil
		})
	}
	return a.awaitRechecks(ctx, 2)
}

// awaitRechecks waits until the relay has asked again about all who are
// connected, and so often.
func (s *stage) awaitRechecks(ctx context.Context, rounds int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rounds)*interval+patience)
	defer cancel()
	asked := func() (float64, error) {
		counters, err := varz.Fetch(ctx, s.target.HTTPClient(), s.target.BaseURL())
		return counters.Sum("derper_recheck_total"), err
	}
	before, err := asked()
	if err != nil {
		return err
	}
	return s.program.Await(ctx, func() error {
		now, err := asked()
		if err == nil && now < before+float64(rounds*len(s.inside)) {
			err = errors.New("it has not asked again about all clients")
		}
		return err
	})
}

func sourceComesBack(ctx context.Context, a *act) (string, error) {
	if err := a.source.revive(ctx); err != nil {
		return "", err
	}
	if err := a.source.set(ctx, a.node("c"), true); err != nil {
		return "", err
	}
	took, err := a.enterWithin(ctx, a.node("c"), a.slack+patience)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("after %d ms", took.Milliseconds()), errors.Join(
		a.isOut(ctx, "a stranger", key.NewNode()),
		a.stay(ctx, a.node("a"), a.node("d")),
	)
}
