// Package programs starts other programs, which end when this process does.
package programs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Children die with the thread that started them, not with the process, so all
// must be started on a thread that never ends. This ties the main goroutine to
// the main thread; Start must be called from it.
func init() { runtime.LockOSThread() }

// Program is a running program with its output in a file.
type Program struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Start starts a program, from the main goroutine. Its log is NAME.log in dir;
// a program of the same name that was started before has its log written on.
func Start(name, dir string, env []string, argv ...string) (*Program, error) {
	p := &Program{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.Env = append(os.Environ(), env...)
	// A group of its own keeps a terminal's interrupt away, so that the order
	// of the shutdown is ours; should this process be killed, it ends too.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		// Its status does not matter: whoever waits for it looks at done.
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Stop asks the program to end, and makes it.
func (p *Program) Stop() {
	if p == nil {
		return
	}
	// An error means that it has ended already.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.Kill()
	}
}

// Kill ends the program without a warning, and waits until it is gone.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Await calls ready until it returns nil. It fails early if the program ends.
func (p *Program) Await(ctx context.Context, ready func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended: %v; its last words:\n%s", p.name, p.cmd.ProcessState, p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w; its last words:\n%s", p.name, ctx.Err(), err, p.Tail())
		}
	}
}

// AwaitListener waits until somebody listens at addr.
func (p *Program) AwaitListener(ctx context.Context, network, addr string) error {
	return p.Await(ctx, func() error {
		conn, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Log is what the program has written.
func (p *Program) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Name is what the program was started as.
func (p *Program) Name() string { return p.name }

// PID is the id of the program's process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Tail is the end of what the program has written.
func (p *Program) Tail() string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Output runs a program to its end, and returns what it printed on standard
// output, also beside an error, which has all that it printed.
func Output(ctx context.Context, env []string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stdout.String() + stderr.String())
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return stdout.String(), nil
}

// FreePort is a TCP port of 127.0.0.1 that nobody listens at.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
