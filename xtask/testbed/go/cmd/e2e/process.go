package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Children die with the thread that started them, not with the process, so all
// must be started on a thread that never ends. This ties the main goroutine to
// the main thread; threads that enter namespaces are others, and do end.
func init() { runtime.LockOSThread() }

// process is a program that runs in a namespace until it is stopped, with its
// output in a file.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startIn starts a program in a namespace, from the main goroutine. `ip netns exec` replaces itself by
// the program, so the process id is the program's own.
func startIn(ns, name, dir string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", ns}, argv...)...)
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

// stop asks the process to end, and makes it.
func (p *process) stop() {
	// An error means that it has ended already.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// await calls ready until it returns nil. It fails early if the process ends.
func (p *process) await(ctx context.Context, ready func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended: %v; its last words:\n%s", p.name, p.cmd.ProcessState, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%v); its last words:\n%s", p.name, ctx.Err(), err, p.tail())
		}
	}
}

// tail is the end of the process's output.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const most = 3000
	if len(text) > most {
		text = text[len(text)-most:]
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
	}
	return string(text)
}

// output runs a program in a namespace to its end and returns what it wrote to
// standard output; its standard error goes into the error. Like startIn, it is
// for the main goroutine.
func output(ctx context.Context, ns string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s%s", filepath.Base(argv[0]), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}
