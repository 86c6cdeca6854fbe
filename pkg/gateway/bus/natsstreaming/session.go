package natsstreaming

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"

	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
	"github.com/openfunction/events/pkg/plan"
)

const (
	dialTimeout    = 3 * time.Second
	requestTimeout = 5 * time.Second // connect, subscribe, close
	ackTimeout     = 5 * time.Second // of a publication
	writeTimeout   = 10 * time.Second
	pingSeconds    = 5
	pingsMissed    = 4
	window         = 1024 // publications without an acknowledgement
)

// What the server says in words only.
const (
	saysClientIDTaken        = "stan: clientID already registered"
	saysUnknownClient        = "stan: unknown clientID"
	saysInvalidPublish       = "stan: invalid publish request"
	saysTooMany              = "too many channels"
	saysTooManySubscriptions = "too many subscriptions"
	saysDiskFull             = "no space left on device"
)

var errTaken = errors.New("another live client has it")

// session is one connection to the server. It is never repaired: when anything breaks it is lost, and the next one takes its place.
type session struct {
	id   string
	nc   *nats.Conn
	sc   stan.Conn
	dial *dialer

	requests chan *publication
	window   chan struct{}
	denied   denials

	silent atomic.Bool // members of a subscription cannot ask each other

	once sync.Once
	lost chan struct{}
	err  error // why, once lost is closed
}

// connect returns a session, or why there is none. That another client has the id is told unless inherits says that it is the bus before.
func (b *Bus) connect(ctx context.Context, inherits bool) (*session, error) {
	b.mu.Lock()
	id := b.id.id
	b.mu.Unlock()
	s := &session{
		id:       id,
		dial:     &dialer{ctx: ctx, dial: b.o.Dial},
		requests: make(chan *publication),
		window:   make(chan struct{}, window),
		lost:     make(chan struct{}),
	}
	// The client libraries take no context: they give up when their connection closes.
	interrupt := context.AfterFunc(ctx, s.dial.close)
	err := s.open(b)
	if err == nil && !interrupt() {
		s.lose(context.Canceled)
		s.close()
		err = context.Canceled
	}
	interrupt()
	if err != nil {
		if err.Error() == saysClientIDTaken {
			b.refused(id, inherits)
			err = fmt.Errorf("client id %s: %w", id, errTaken)
		}
		return nil, b.connectError(err)
	}
	b.mu.Lock()
	b.id.refused = 0
	b.mu.Unlock()
	return s, nil
}

func (b *Bus) connectError(err error) error {
	return fmt.Errorf("connect to %s: %w", plan.HideURL(b.o.Config.URL), err)
}

func (b *Bus) refused(id string, inherits bool) {
	b.mu.Lock()
	changed, now := b.id.refuse(), b.id.id
	b.mu.Unlock()
	if changed && !inherits {
		b.log.Warnw("another live client of the event bus has the client id, using another one", "client", id, "instead", now)
	}
}

func (s *session) open(b *Bus) error {
	nc, err := natsaccess.Connect(s.dial.ctx, natsaccess.Servers{
		Access: b.o.Config.NATSAccess, URL: b.o.Config.URL, Field: "natsURL", Dial: s.dial,
	},
		nats.Name("openfunction-events"),
		nats.Timeout(dialTimeout),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingSeconds*time.Second),
		nats.MaxPingsOutstanding(pingsMissed),
		nats.ClosedHandler(func(nc *nats.Conn) { s.lose(b.closedBecause(nc)) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.told(b, err) }),
	)
	if err != nil {
		s.dial.close()
		return err
	}
	s.denied.interrupt(nc.Close) // the client library would wait for an answer that does not come
	sc, err := stan.Connect(b.o.Config.ClusterID, s.id,
		stan.NatsConn(nc),
		stan.ConnectWait(requestTimeout),
		stan.PubAckWait(ackTimeout),
		stan.MaxPubAcksInflight(window+1), // ours is the one that respects a context
		stan.Pings(pingSeconds, pingsMissed),
		stan.AllowCloseRetry(true), // so that a subscription that cannot be removed can be closed
		stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { s.lose(err) }),
	)
	if err == nil {
		err = s.examine(b, nc)
	}
	s.denied.interrupt(nil)
	if denied := b.denial(nc.LastError()); denied != nil {
		err = denied
	} else if denied := s.denied.latest(); denied != nil { // said by whom the connection was closed
		err = denied
	} else if errors.Is(err, stan.ErrConnectReqTimeout) {
		err = fmt.Errorf("no NATS Streaming cluster %q answers there: correct natsStreamingClusterID or natsURL", b.o.Config.ClusterID)
	}
	if err != nil {
		if sc != nil {
			_ = sc.Close()
		}
		nc.Close()
		s.dial.close()
		return err
	}
	s.nc, s.sc = nc, sc
	return nil
}

func (b *Bus) closedBecause(nc *nats.Conn) error {
	return fmt.Errorf("the connection to %s is lost: %w", plan.HideURL(b.o.Config.URL), cmp.Or(nc.LastError(), nats.ErrConnectionClosed))
}

// lose declares the session lost. Only the first reason counts.
func (s *session) lose(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.lost)
	})
}

func (s *session) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// serve sends publications until the session is lost, and returns why, or until ctx is done.
func (s *session) serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.lost:
			return s.err
		case p := <-s.requests:
			if err := s.send(p); err != nil && !errors.Is(err, nats.ErrMaxPayload) {
				s.lose(err)
			}
		}
	}
}

// close disconnects. A session that was lost says nothing to the server: by then, its client id may be another's.
func (s *session) close() {
	if s.isLost() {
		s.dial.close()
		s.nc.Close()
		_ = s.sc.Close() // fails what waits for an acknowledgement
		return
	}
	_ = s.nc.FlushTimeout(requestTimeout)
	s.denied.interrupt(s.nc.Close)
	_ = s.sc.Close()
	s.nc.Close()
	s.dial.close()
}

// dialer gives the NATS client a context, and can break its connection, which wakes whoever is stuck in a write.
type dialer struct {
	ctx  context.Context
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	conn net.Conn
}

// Dial is called for one server after the other until one accepts.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	conn, err := d.dial(ctx, network, address)
	d.mu.Lock()
	d.conn = conn
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if d.ctx.Err() != nil { // close may have come too early for this connection
		d.close()
	}
	return conn, nil
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		_ = d.conn.Close()
	}
}
