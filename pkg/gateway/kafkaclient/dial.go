package kafkaclient

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

// dialTimeout bounds one attempt to connect.
const dialTimeout = 10 * time.Second

// answerTimeout bounds the wait for the first answer, of TLS and of Kafka: who is no broker may be silent for ever.
const answerTimeout = 10 * time.Second

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
	access   plan.KafkaAccess
	tls      *tls.Config   // nil: the connections are not secured
	patience time.Duration // with the first answer
}

// Dial connects, and secures the connection if it shall be.
func (t *transport) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, dialTimeout)
	defer cancel()
	c, err := t.connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	g := &greeted{Conn: c, transport: t, address: address}
	if t.tls == nil {
		return g, nil
	}
	ctx, cancel = context.WithTimeout(t.ctx, t.patience)
	defer cancel()
	if g.Conn, err = peer.Handshake(ctx, c, t.tls, address); err != nil {
		return nil, g.explain(err)
	}
	return g, nil
}

// greeted notices a server that hangs up at once, which is all that Kafka tells whoever talks to the wrong port, and one that is no Kafka.
type greeted struct {
	net.Conn
	*transport
	address  string
	requests atomic.Int32 // sarama writes each with one call
	answers  bool         // the first one has begun
}

// greetings is the number of requests until a client that was let in has an answer to its first real one: which versions there are,
// and with SASL the handshake and one or two messages of the mechanism.
func (g *greeted) greetings() int32 {
	if g.access.SASLMechanism != "" {
		return 4
	}
	return 2
}

// Write sends a request.
func (g *greeted) Write(b []byte) (int, error) {
	g.requests.Add(1)
	n, err := g.Conn.Write(b)
	return n, g.explain(err)
}

// Read receives a part of an answer.
func (g *greeted) Read(b []byte) (int, error) {
	if !g.answers {
		return g.first(b)
	}
	n, err := g.Conn.Read(b)
	if n > 0 {
		return n, err
	}
	return 0, g.explain(err)
}

// maxFirst bounds the first answer, in which a broker lists what it can do. Sarama makes room for as much as that is said to be.
const maxFirst = 1 << 20

// first receives the beginning of the first answer, which says how long it is.
func (g *greeted) first(b []byte) (int, error) {
	if err := g.Conn.SetReadDeadline(time.Now().Add(g.patience)); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(b)
	if n > 0 && n < 4 && b[0] == 0 {
		var more int
		more, err = io.ReadAtLeast(g.Conn, b[n:], 4-n)
		n += more
	}
	var silent net.Error
	switch {
	case n >= 4 && binary.BigEndian.Uint32(b) >= 4 && binary.BigEndian.Uint32(b) <= maxFirst:
		g.answers = true
		return n, err
	case n > 0, errors.As(err, &silent) && silent.Timeout():
		// Sarama tries no other version after the end of a connection.
		return 0, g.refuse(n == 0, broker(g.access).Stranger(b[:n]), io.ErrUnexpectedEOF)
	}
	return 0, g.explain(err)
}

// explain returns err as a *Refusal if it is the answer to one of the first requests, and as it is otherwise.
func (g *greeted) explain(err error) error {
	requests := g.requests.Load()
	if err == nil || requests > g.greetings() {
		return err
	}
	why := broker(g.access).Untrusted(err)
	if why == nil && peer.HungUp(err) {
		why = hangUp(g.access, requests)
	}
	if why == nil {
		return err
	}
	return g.refuse(peer.HungUp(err) || errors.Is(err, context.DeadlineExceeded), why, err)
}

func (g *greeted) refuse(guess bool, why, err error) error {
	return &Refusal{Guess: guess, address: g.address, text: "kafka " + g.address + ": " + why.Error(), err: err}
}
