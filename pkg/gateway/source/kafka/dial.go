package kafka

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds one attempt to connect.
const dialTimeout = 10 * time.Second

// dialer makes the connections of a run and can end them all: the client waits for answers without a context, for as long as
// a rebalance may take, and Run must not.
type dialer struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	ctx    context.Context // sarama's Dial has none
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newDialer(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error)) *dialer {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	d := &dialer{dial: dial, conns: map[*conn]struct{}{}}
	// What is in flight when ctx is done is committed after that.
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return d
}

// Dial implements the dialer that sarama calls.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	inner, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, dialer: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		_ = inner.Close()
		return nil, d.ctx.Err()
	}
	d.conns[c] = struct{}{}
	return c, nil
}

// closeLate ends all connections when finished is not closed some time after ctx is done. It returns when finished is closed.
func (d *dialer) closeLate(ctx context.Context, finished <-chan struct{}) {
	defer d.close()
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(stopTimeout)
	defer late.Stop()
	select {
	case <-finished:
	case <-late.C:
		d.close()
		<-finished
	}
}

func (d *dialer) close() {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.Conn.Close()
	}
	clear(d.conns)
}

type conn struct {
	net.Conn
	dialer *dialer
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
