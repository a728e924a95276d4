package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/members"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// tailnetCases stand alone.
var tailnetCases = []struct {
	name string
	ours bool // needs what Go's relay does not have
	run  func(context.Context, *lab) (detail string, err error)
}{
	{"real nodes talk, and a real node of another tailnet does not come in", false, realNodes},
	{"a policy that hides all nodes, and then does not", false, hiddenNodes},
	{"a tailscaled that starts again and hears nothing from its control server", true, deafDaemon},
	{"one relay, three tailnets, no tailscaled, as the guide has it", true, threeTailnets},
	{"one relay, three tailscaleds, as the guide has it", true, threeSockets},
}

// byDaemon are the flags that make either relay ask a tailscaled.
func (l *lab) byDaemon() []string {
	if l.goRelay {
		return []string{"-verify-clients", "-socket=" + l.net.socket()}
	}
	return append(ours, "-verify-tailscaled="+l.net.socket())
}

// showAll has the tailscaled see all nodes, or none.
func (l *lab) showAll(visible bool) error {
	for name := range l.net.nodes {
		l.net.hidden[name] = !visible
	}
	return l.net.tell()
}

// realNodes puts the relay where the nodes' DERP map says that it is.
func realNodes(ctx context.Context, l *lab) (string, error) {
	if err := l.showAll(true); err != nil {
		return "", err
	}
	s, err := l.runAt(ctx, l.home.Port, l.byDaemon()...)
	if err != nil {
		return "", err
	}
	defer s.close()
	other, err := l.tailnet("other")
	if err != nil {
		return "", err
	}
	defer other.close()
	stranger, err := other.node(ctx, "stranger")
	if err != nil {
		return "", err
	}
	a, b, c := l.node("a"), l.node("b"), l.node("c")
	for _, n := range []*members.Node{a, b, c} {
		if err := n.AwaitHome(ctx); err != nil {
			return "", fmt.Errorf("%w; the relay's log:\n%s", err, s.program.Log())
		}
	}
	if err := errors.Join(ping(ctx, a, b), ping(ctx, b, c), ping(ctx, c, a)); err != nil {
		return "", err
	}
	if err := s.awaitRefusal(ctx, stranger.Public()); err != nil {
		return "", err
	}
	magic := stranger.Sys().HealthTracker.Get()
	if !magic.GetDERPRegionReceivedTime(l.home.Region(0).RegionID).IsZero() {
		return "", errors.New("the stranger has heard from the relay")
	}
	return "three pings by the relay", nil
}

// awaitRefusal waits until the relay has logged that it turned a key away.
func (s *stage) awaitRefusal(ctx context.Context, k key.NodePublic) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return s.program.Await(ctx, func() error {
		if _, err := refusal(s.program.Log(), k); err != nil {
			return err
		}
		return nil
	})
}

// refusal is the line of a relay's log that says that a key was turned away.
func refusal(log string, k key.NodePublic) (string, error) {
	for line := range strings.Lines(log) {
		named := strings.Contains(line, k.String()) || strings.Contains(line, k.ShortString())
		if named && (strings.Contains(line, "refused") || strings.Contains(line, "rejected")) {
			return strings.TrimSpace(line), nil
		}
	}
	return "", errors.New("the relay has logged no refusal of " + k.String())
}

// ping wants a ping to go through the relay.
func ping(ctx context.Context, from, to *members.Node) error {
	lc, err := from.LocalClient()
	if err != nil {
		return err
	}
	ip, _ := to.TailscaleIPs()
	for range 5 { // a packet may be lost, and is not sent again
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		res, pingErr := lc.Ping(once, ip, tailcfg.PingDisco)
		cancel()
		if err = pingErr; err != nil {
			continue
		}
		if res.Err != "" || res.Endpoint != "" || res.DERPRegionID == 0 {
			return fmt.Errorf("ping: %q, by %q, region %d", res.Err, res.Endpoint, res.DERPRegionID)
		}
		return nil
	}
	return fmt.Errorf("ping from %s to %s: %w", from.Name, to.Name, err)
}

// hiddenNodes is what happens to those whose policy forgets the relay.
func hiddenNodes(ctx context.Context, l *lab) (string, error) {
	if err := l.showAll(false); err != nil {
		return "", err
	}
	s, err := l.run(ctx, l.byDaemon()...)
	if err != nil {
		return "", err
	}
	defer s.close()
	a := l.node("a")
	for deadline := time.Now().Add(patience); s.isOut(ctx, "a hidden node", a.Private) != nil; {
		if time.Now().After(deadline) {
			return "", errors.New("a hidden node still comes in")
		}
	}
	for _, name := range []string{"b", "c"} {
		if err := s.isOut(ctx, "a hidden node", l.node(name).Private); err != nil {
			return "", err
		}
	}
	line, err := refusal(s.program.Log(), a.Public())
	if err != nil {
		return "", err
	}
	if !l.goRelay && !strings.Contains(line, "unknown to the tailscaled at "+l.net.socket()) {
		return "", errors.New("the log does not say why: " + line)
	}
	if err := l.showAll(true); err != nil {
		return "", err
	}
	took, err := s.enterWithin(ctx, a, patience)
	return fmt.Sprintf("in after %d ms; before: %s", took.Milliseconds(), line), err
}

// deafDaemon is an update of tailscaled on a day on which its control server is
// away: it answers, and knows nobody.
func deafDaemon(ctx context.Context, l *lab) (detail string, err error) {
	if err := l.showAll(true); err != nil {
		return "", err
	}
	s, err := l.run(ctx, l.byDaemon()...)
	if err != nil {
		return "", err
	}
	defer s.close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the relay's log:\n%s\nthe tailscaled's:\n%s", err, s.program.Log(), l.net.daemon.Log())
		}
	}()
	a, b, c := l.node("a"), l.node("b"), l.node("c")
	for _, n := range []*members.Node{a, b} {
		if _, err := s.enterWithin(ctx, n, patience); err != nil {
			return "", err
		}
	}
	l.net.closeControl()
	l.net.daemon.Kill()
	if err := l.net.launchDaemon(ctx); err != nil {
		return "", err
	}
	if err := s.awaitRechecks(ctx, 2); err != nil {
		return "", err
	}
	s.leave(b)
	err = errors.Join(
		s.stay(ctx, a),
		s.enter(ctx, b),
		s.isOut(ctx, "a stranger", key.NewNode()),
		s.isOut(ctx, "a member that has not been here", c.Private),
	)
	if err != nil {
		return "", err
	}
	if err := l.net.openControl(); err != nil {
		return "", err
	}
	if err := l.net.awaitDaemon(ctx); err != nil {
		return "", err
	}
	took, err := s.enterWithin(ctx, c, patience)
	if err != nil {
		return "", err
	}
	if err := l.net.set("b", false); err != nil {
		return "", err
	}
	select {
	case <-s.inside["b"].Gone():
	case <-time.After(interval + patience):
		return "", errors.New("a node that was removed afterwards is still connected")
	}
	detail = fmt.Sprintf("all in %d ms after it has heard from it", took.Milliseconds())
	return detail, s.stay(ctx, a, c)
}

// threeTailnets follows docs/several-tailnets.md: its configuration file, with
// the example's names replaced by what there is here.
func threeTailnets(ctx context.Context, l *lab) (string, error) {
	dir, err := l.folder()
	if err != nil {
		return "", err
	}
	real, err := readRecording(filepath.Join(l.recordings, "headscale-0.30-dev.json"))
	if err != nil {
		return "", err
	}
	first, err := headscale(real)
	if err != nil {
		return "", err
	}
	second, err := admissionURL()
	if err != nil {
		return "", err
	}
	nets, err := l.threeNets(ctx)
	defer closeAll(nets)
	if err != nil {
		return "", err
	}
	third := &statusSource{nets[2], filepath.Join(dir, "third.json")}
	sources := []source{first, second, third}
	for i, source := range sources {
		if err := source.set(ctx, nets[i].member(), true); err != nil {
			return "", err
		}
	}
	keyFile := filepath.Join(dir, "headscale.key")
	if err := os.WriteFile(keyFile, []byte(apiKey+"\n"), 0o600); err != nil {
		return "", err
	}
	s, err := l.runAsTheGuide(ctx, dir, "hostname = ", map[string]string{
		"https://headscale.example.com":      first.url(),
		"/etc/derper/headscale.key":          keyFile,
		"https://admission.example.com/derp": second.url() + "/derp",
		"/etc/derper/third.json":             third.path,
	})
	if err != nil {
		return "", err
	}
	defer s.close()
	if err := oneOfEach(ctx, s, nets); err != nil {
		return "", fmt.Errorf("%w; the relay's log:\n%s", err, s.program.Log())
	}
	// One of them is down: its stranger stays out, and the others do not notice.
	if err := first.kill(); err != nil {
		return "", err
	}
	for _, net := range nets {
		s.leave(net.member())
		if err := s.enter(ctx, net.member()); err != nil {
			return "", fmt.Errorf("while the first tailnet's server is down: %s: %w", net.name, err)
		}
	}
	return "one in of each, a stranger out, one server down", s.isOut(ctx, "a stranger", key.NewNode())
}

// threeSockets follows the same page's last section.
func threeSockets(ctx context.Context, l *lab) (string, error) {
	dir, err := l.folder()
	if err != nil {
		return "", err
	}
	nets, err := l.threeNets(ctx)
	defer closeAll(nets)
	if err != nil {
		return "", err
	}
	replaced := map[string]string{}
	for _, net := range nets {
		replaced["/run/tailscale-"+strings.TrimPrefix(net.name, "three-")+"/tailscaled.sock"] = net.socket()
	}
	s, err := l.runAsTheGuide(ctx, dir, "tailscaled = ", replaced)
	if err != nil {
		return "", err
	}
	defer s.close()
	return "one in of each, a stranger out", oneOfEach(ctx, s, nets)
}

// threeNets are three tailnets with a tailscaled and one more node each.
func (l *lab) threeNets(ctx context.Context) (nets []*tailnet, err error) {
	for _, name := range []string{"first", "second", "third"} {
		net, err := l.tailnet("three-" + name)
		if err != nil {
			return nets, err
		}
		nets = append(nets, net)
		if _, err := net.node(ctx, net.name); err != nil {
			return nets, err
		}
		if err := net.startDaemon(ctx); err != nil {
			return nets, err
		}
	}
	return nets, nil
}

// member is the node that has the tailnet's own name.
func (t *tailnet) member() *members.Node { return t.nodes[t.name] }

func closeAll(nets []*tailnet) {
	for _, net := range nets {
		net.close()
		// The next case makes tailnets of the same names.
		_ = os.RemoveAll(net.dir)
	}
}

func oneOfEach(ctx context.Context, s *stage, nets []*tailnet) error {
	for _, net := range nets {
		member := net.member()
		took, err := s.enterWithin(ctx, member, patience)
		if err != nil {
			return fmt.Errorf("the %s tailnet after %v: %w", net.name, took, err)
		}
	}
	return s.isOut(ctx, "a stranger", key.NewNode())
}

// runAsTheGuide starts the relay with the block of the guide's configuration
// that has a line which begins with mark. What is not about admission comes
// from here where the block does not have it.
func (l *lab) runAsTheGuide(ctx context.Context, dir, mark string, replaced map[string]string) (*stage, error) {
	page := filepath.Join(l.docs, "several-tailnets.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	config := ""
	for _, block := range strings.Split(string(text), "```toml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		if strings.Contains("\n"+block, "\n"+mark) {
			config = block
		}
	}
	if config == "" {
		return nil, fmt.Errorf("%s has no configuration with %q", page, mark)
	}
	for from, to := range replaced {
		if !strings.Contains(config, from) {
			return nil, fmt.Errorf("%s does not mention %s", page, from)
		}
		config = strings.ReplaceAll(config, from, to)
	}
	file := filepath.Join(dir, "derper.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	// Flags count before the file: the address, the certificate and the ports
	// are of this machine.
	return l.run(ctx, "--config="+file)
}
