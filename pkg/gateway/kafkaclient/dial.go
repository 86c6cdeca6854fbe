package kafkaclient

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout bounds one attempt to connect.
const dialTimeout = 10 * time.Second

// Dialer makes connections until Close, which ends them all: sarama waits for answers without a context, for as long as a rebalance
// may take, and who uses it must not.
type Dialer struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	ctx    context.Context // sarama's Dial has none
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// NewDialer returns a Dialer that dials with dial; nil means a net.Dialer's.
func NewDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Dialer {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	d := &Dialer{dial: dial, conns: map[*conn]struct{}{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Close ends all connections, and those that are being made. Calling it again does nothing.
func (d *Dialer) Close() {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.Conn.Close()
	}
	clear(d.conns)
}

func (d *Dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
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

type conn struct {
	net.Conn
	dialer *Dialer
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}

// transport is the dialer that sarama calls.
type transport struct {
	*Dialer
	tls  *tls.Config // nil: the connections are not secured
	sasl bool        // clients authenticate first
}

// Dial connects, and secures the connection if it shall be.
func (t *transport) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, dialTimeout)
	defer cancel()
	c, err := t.connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if t.tls == nil {
		return &greeted{Conn: c, address: address, sasl: t.sasl}, nil
	}
	config := t.tls
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	secured := tls.Client(c, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, &handshakeError{address: address, err: err}
	}
	return &greeted{Conn: secured, address: address, secured: true, sasl: t.sasl}, nil
}

// greeted notices a server that hangs up at once. Whoever talks to the wrong port is told no more than that by Kafka.
type greeted struct {
	net.Conn
	address  string
	secured  bool
	sasl     bool
	requests atomic.Int32 // sarama writes each with one call
}

// greetings is the number of requests until a client that was let in has an answer to its first real one: which versions there are,
// and with SASL the handshake and one or two messages of the mechanism.
func (g *greeted) greetings() int32 {
	if g.sasl {
		return 4
	}
	return 2
}

// alert is what a TLS record begins with that tells of a failure. The lengths of Kafka's answers do not.
const alert = 21

// Write sends a request.
func (g *greeted) Write(b []byte) (int, error) {
	g.requests.Add(1)
	return g.Conn.Write(b)
}

// Read receives a part of an answer.
func (g *greeted) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	requests := g.requests.Load()
	if requests > g.greetings() {
		return n, err
	}
	if requests == 1 && !g.secured && n > 0 && b[0] == alert {
		return 0, &hangUp{address: g.address, requests: 1, err: errAlert}
	}
	if n == 0 && hungUp(err) {
		return 0, &hangUp{address: g.address, requests: requests, secured: g.secured, err: err}
	}
	return n, err
}
