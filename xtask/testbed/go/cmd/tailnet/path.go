package main

import (
	"errors"
	"io"
	"net"
	"time"
)

// chunkLen is how much of a stream is delayed as one piece.
const chunkLen = 4 << 10

// socketBuffer is what the kernel may hold for the path on the relay's side.
// More would be a queue that a real path does not have there: what the relay
// sends faster than the path's rate has to wait in the relay's own socket.
const socketBuffer = 64 << 10

// slack is how late a read may be before the path loses what it could have
// carried meanwhile: timers are late, wires are not.
const slack = 10 * time.Millisecond

// path is a long and narrow way from the relay to the nodes: what the relay
// sends takes some time, and no more than so many bytes pass in a second. The
// other direction is as fast as it goes, so that a round trip takes the delay
// once for each node.
type path struct {
	ln    net.Listener
	relay string // address
	delay time.Duration
	rate  int64 // bytes a second; 0 for any
}

// startPath listens for nodes on a port of its own.
func startPath(relay string, delay time.Duration, rate int64) (*path, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &path{ln: ln, relay: relay, delay: delay, rate: rate}
	go p.serve()
	return p, nil
}

func (p *path) port() int { return p.ln.Addr().(*net.TCPAddr).Port }

// close ends the path for new connections; those that exist end with the nodes.
func (p *path) close() error { return p.ln.Close() }

func (p *path) serve() {
	for {
		node, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		go p.join(node.(*net.TCPConn))
	}
}

// join connects a node with the relay until either ends.
func (p *path) join(node *net.TCPConn) {
	defer node.Close()
	conn, err := net.Dial("tcp", p.relay)
	if err != nil {
		return
	}
	relay := conn.(*net.TCPConn)
	defer relay.Close()
	if err := relay.SetReadBuffer(socketBuffer); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(relay, node) // an end is an end, whoever made it
		_ = relay.CloseWrite()
		done <- struct{}{}
	}()
	go func() {
		_ = p.delayed(node, relay)
		_ = node.CloseWrite()
		done <- struct{}{}
	}()
	<-done
	<-done
}

// piece is on its way until it is due.
type piece struct {
	bytes []byte
	due   time.Time
}

// delayed copies from r to w by the path's rules. What is under way is bounded
// by the rate, as on a wire.
func (p *path) delayed(w io.Writer, r io.Reader) error {
	under := make(chan piece, p.capacity())
	failed := make(chan error, 1)
	go func() {
		var err error
		for c := range under {
			if err == nil {
				time.Sleep(time.Until(c.due))
				_, err = w.Write(c.bytes)
			}
		}
		failed <- err
	}()
	free := time.Now() // when the wire has taken what was read so far
	var err error
	for err == nil {
		time.Sleep(time.Until(free))
		buf := make([]byte, chunkLen)
		var n int
		n, err = r.Read(buf)
		if earliest := time.Now().Add(-slack); free.Before(earliest) {
			free = earliest
		}
		if p.rate > 0 {
			free = free.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
		}
		if n > 0 {
			under <- piece{buf[:n], free.Add(p.delay)}
		}
	}
	close(under)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, <-failed)
}

// capacity is how many pieces may be under way: what passes in the delay, and
// as much again because reads may be shorter than a piece.
func (p *path) capacity() int {
	if p.rate == 0 {
		return 1 << 14
	}
	passes := p.rate * int64(p.delay) / int64(time.Second)
	return int(4*passes/chunkLen) + 64
}
