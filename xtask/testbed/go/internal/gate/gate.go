// Package gate tells whether a relay lets a key in.
package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/derpkit/derpkit/xtask/testbed/go/internal/target"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
)

// Client is a client that a relay has admitted.
type Client struct {
	c    *derphttp.Client
	gone chan struct{} // closed when the relay has closed the connection
	err  error         // why; read after gone is closed
}

// Enter connects as the holder of priv, and returns once the relay has
// admitted it or turned it away.
func Enter(ctx context.Context, t *target.Target, priv key.NodePrivate) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, err := t.NewClient(ctx, priv, target.ClientOptions{CanAckPings: true})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = d.Close() })
	defer stop()
	if err := d.Connect(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	// Go's client counts itself connected before the relay has admitted it;
	// what a relay says first to whom it admits is this.
	m, err := d.Recv()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if _, ok := m.(derp.ServerInfoMessage); !ok {
		return nil, errors.Join(fmt.Errorf("a %T in place of the server's info", m), d.Close())
	}
	c := &Client{c: d, gone: make(chan struct{})}
	go c.pump()
	return c, nil
}

// pump reads until the connection breaks, and stops there: one more call would
// make Go's client reconnect.
func (c *Client) pump() {
	defer close(c.gone)
	for {
		m, err := c.c.Recv()
		if err != nil {
			c.err = err
			return
		}
		if ping, ok := m.(derp.PingMessage); ok {
			// If this fails, so does the next Recv.
			_ = c.c.SendPong(ping)
		}
	}
}

// Gone is closed when the connection is no more.
func (c *Client) Gone() <-chan struct{} { return c.gone }

// Alive says whether the connection carries something to the relay and back.
func (c *Client) Alive(ctx context.Context) error {
	select {
	case <-c.gone:
		return fmt.Errorf("the relay closed the connection: %w", c.err)
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := c.c.Ping(ctx); err != nil {
		return fmt.Errorf("no pong: %w", err)
	}
	return nil
}

// Leave closes the connection, and waits until nothing of it is left.
func (c *Client) Leave() {
	_ = c.c.Close()
	<-c.gone
}
