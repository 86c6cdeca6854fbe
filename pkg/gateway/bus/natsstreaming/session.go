package natsstreaming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
	"go.uber.org/zap"

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
	saysClientIDTaken  = "stan: clientID already registered"
	saysUnknownClient  = "stan: unknown clientID"
	saysInvalidPublish = "stan: invalid publish request"
	saysTooMany        = "too many channels"
)

// session is one connection to the server. It is never repaired: when anything breaks it is lost, and the next one takes its place.
type session struct {
	id   string
	nc   *nats.Conn
	sc   stan.Conn
	dial *dialer

	requests chan *publication
	window   chan struct{}
	denied   denials

	once sync.Once
	lost chan struct{}
	err  error // why, once lost is closed
}

// connect returns a session, or why there is none.
func (b *Bus) connect(ctx context.Context) (*session, error) {
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
			b.refused(id)
			err = fmt.Errorf("client id %s: another live client has it", id)
		}
		return nil, fmt.Errorf("connect to %s: %w", plan.HideURL(b.o.Config.URL), err)
	}
	b.mu.Lock()
	b.id.refused = 0
	b.mu.Unlock()
	return s, nil
}

func (b *Bus) refused(id string) {
	b.mu.Lock()
	changed, now := b.id.refuse(), b.id.id
	b.mu.Unlock()
	if changed {
		b.log.Warnw("another live client of the event bus has the client id, using another one", "client", id, "instead", now)
	}
}

func (s *session) open(b *Bus) error {
	access, err := natsaccess.Options(b.o.Config.NATSAccess)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(b.o.Config.URL, append(access,
		nats.Name("openfunction-events"),
		nats.SetCustomDialer(s.dial),
		nats.SkipHostLookup(),
		nats.NoReconnect(),
		nats.Timeout(dialTimeout),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(pingSeconds*time.Second),
		nats.MaxPingsOutstanding(pingsMissed),
		nats.ClosedHandler(func(nc *nats.Conn) { s.lose(closedBecause(nc)) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.denied.add(err)
			b.log.Debugw("event bus connection reports an error", zap.Error(err))
		}),
	)...)
	if err != nil {
		s.dial.close()
		if errors.Is(err, nats.ErrNoServers) {
			return s.dial.failure(err)
		}
		if explained := natsaccess.Explain(b.o.Config.NATSAccess, b.o.Config.URL, err); explained != nil {
			return explained
		}
		return err
	}
	sc, err := stan.Connect(b.o.Config.ClusterID, s.id,
		stan.NatsConn(nc),
		stan.ConnectWait(requestTimeout),
		stan.PubAckWait(ackTimeout),
		stan.MaxPubAcksInflight(window+1), // ours is the one that respects a context
		stan.Pings(pingSeconds, pingsMissed),
		stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { s.lose(err) }),
	)
	if err == nil {
		err = nc.FlushTimeout(requestTimeout) // by then the server has said whether it permits what that subscribes to
	}
	if last := nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) {
		err = natsaccess.Denied(last, needed)
	} else if errors.Is(err, stan.ErrConnectReqTimeout) {
		err = fmt.Errorf("no NATS Streaming cluster %q answers there", b.o.Config.ClusterID)
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

// needed is what the server has to permit.
const needed = "_STAN.>, _INBOX.> and _OPENFUNCTION.>"

// denials are what the server has said that it does not permit to publish, by subject. It does not answer such a request.
type denials struct {
	mu  sync.Mutex
	all map[string]denial
}

type denial struct {
	at  time.Time
	err error
}

func (d *denials) add(err error) {
	subject := natsaccess.DeniedSubject(err)
	if subject == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[string]denial{}
	}
	d.all[subject] = denial{time.Now(), err}
}

// since returns what the server has said since then of a subject that is accepts, or nil.
func (d *denials) since(then time.Time, is func(subject string) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for subject, denied := range d.all {
		if is(subject) && denied.at.After(then) {
			return natsaccess.Denied(denied.err, needed)
		}
	}
	return nil
}

func closedBecause(nc *nats.Conn) error {
	if err := nc.LastError(); err != nil {
		return err
	}
	return errors.New("connection closed")
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
	err  error // the last
}

// Dial is called for one server after the other until one accepts.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	conn, err := d.dial(ctx, network, address)
	d.mu.Lock()
	d.conn, d.err = conn, err
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if d.ctx.Err() != nil { // close may have come too early for this connection
		d.close()
	}
	return conn, nil
}

// failure returns why the last server could not be reached, which the NATS client keeps to itself, or else err.
func (d *dialer) failure(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	return err
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		_ = d.conn.Close()
	}
}
