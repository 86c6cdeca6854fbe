package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
)

const (
	// window bounds the publications that wait for their acknowledgement.
	window = 4096

	reconnectMin = 100 * time.Millisecond
	reconnectMax = 2 * time.Second
	reopenWait   = 500 * time.Millisecond
	pingInterval = 5 * time.Second
)

// link is one uninterrupted time of being connected.
type link struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	pub *publisher
	ctx context.Context // done when the connection is lost

	cancel  context.CancelFunc
	mu      sync.Mutex
	streams map[string]*lookup // by topic: those that exist, as far as we know, and those that are asked for
}

// run owns the connection.
func (b *Bus) run() {
	defer close(b.stopped)
	for !b.isShut() {
		nc, err := b.connect()
		if err != nil {
			b.lose(b.explain(err))
			b.pause(time.Second)
			continue
		}
		b.maintain(nc)
		b.lose(nats.ErrConnectionClosed)
		nc.Close()
	}
}

func (b *Bus) connect() (*nats.Conn, error) {
	access, err := natsaccess.Options(b.o.Config.NATSAccess)
	if err != nil {
		return nil, err
	}
	return nats.Connect(b.o.Config.URL, append(b.options(), access...)...)
}

// explain says why the server and we do not trust each other, if that is what err means.
func (b *Bus) explain(err error) error {
	explained := natsaccess.Explain(b.o.Config.NATSAccess, b.o.Config.URL, err)
	if explained == nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Errorf("nats %s: %w", b.dialed, explained)
}

func (b *Bus) isShut() bool {
	select {
	case <-b.shut:
		return true
	default:
		return b.ctx.Err() != nil
	}
}

func (b *Bus) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.shut:
	case <-b.ctx.Done():
	}
}

// options are those of the connection. Its callbacks run one after the other on a goroutine of nats.go.
func (b *Bus) options() []nats.Option {
	tell := func(*nats.Conn) { b.tell() }
	lose := func(_ *nats.Conn, err error) {
		if err == nil {
			err = nats.ErrDisconnected
		}
		b.lose(b.explain(err))
		b.tell()
	}
	options := []nats.Option{
		nats.Name("openfunction-events " + b.o.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.IgnoreAuthErrorAbort(), // a changed password is no reason to give up
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(requestTimeout),
		nats.ConnectHandler(tell),
		nats.ReconnectHandler(tell),
		nats.ClosedHandler(tell),
		nats.DisconnectErrHandler(lose),
		nats.ReconnectErrHandler(lose),
		nats.ErrorHandler(b.asyncError),
	}
	if b.o.InProcess != nil {
		return append(options, nats.InProcessServer(b.o.InProcess))
	}
	// The dialer resolves names: it may lead somewhere else than the system's resolver does.
	return append(options, nats.SetCustomDialer(dialer{b}), func(o *nats.Options) error { o.SkipHostLookup = true; return nil })
}

// reconnectDelay grows with the number of times that no server let us in.
func reconnectDelay(attempts int) time.Duration {
	d := min(reconnectMin<<min(attempts, 10), reconnectMax)
	return d/2 + rand.N(d/2)
}

func (b *Bus) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if natsaccess.Explain(b.o.Config.NATSAccess, b.o.Config.URL, err) != nil {
		return // the connection ends, which is said once; this comes with every attempt
	}
	if errors.Is(err, nats.ErrPermissionViolation) {
		b.mu.Lock()
		b.denied = err
		b.mu.Unlock()
		l := b.current.Load()
		if l == nil {
			return // open tells
		}
		if subject := natsaccess.DeniedSubject(err); subject != "" {
			l.deny(subject, b.whyDenied(err))
		}
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	logging.FromContext(b.ctx).Warnw("the bus reports an error", "bus", b.o.Name, "subject", subject, "error", err)
}

// dialer is a nats.CustomDialer that remembers where it was sent and why it could not.
type dialer struct{ b *Bus }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.b.ctx, requestTimeout)
	defer cancel()
	c, err := d.b.o.Dial(ctx, network, address)
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.b.dialed, d.b.dialErr = address, err
	return c, err
}

func (b *Bus) tell() {
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// maintain keeps a link while nc is connected, until the bus is closed or nc is.
func (b *Bus) maintain(nc *nats.Conn) {
	js, err := jetstream.New(nc)
	var pub *publisher
	if err == nil {
		pub, err = newPublisher(nc)
	}
	if err != nil {
		b.lose(err)
		b.pause(time.Second)
		return
	}
	if !nc.IsConnected() && errors.Is(b.why(), bus.ErrConnecting) { // otherwise a callback was faster, and knows more
		b.lose(nats.ErrNoServers)
	}
	retry := time.NewTimer(0)
	defer retry.Stop()
	for !nc.IsClosed() {
		select {
		case <-b.shut:
			b.flush(nc, pub)
			return
		case <-b.signal:
		case <-retry.C:
		}
		if !nc.IsConnected() {
			if err := nc.LastError(); err != nil { // nobody is told of a server that accepts the connection and then refuses us
				b.lose(b.explain(err))
			}
			retry.Reset(reopenWait)
			continue
		}
		if b.current.Load() != nil {
			continue
		}
		if err := b.open(nc, js, pub); err != nil {
			b.lose(err)
			retry.Reset(reopenWait)
		}
	}
}

// open checks that the server does what we need and makes the link known.
func (b *Bus) open(nc *nats.Conn, js jetstream.JetStream, pub *publisher) error {
	b.mu.Lock()
	generation := b.generation
	b.denied = nil
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(b.ctx, requestTimeout)
	defer cancel()
	l := &link{nc: nc, js: js, pub: pub, streams: map[string]*lookup{}}
	if err := b.ensure(ctx, l, b.eventsStream()); err != nil {
		return b.whyDenied(err)
	}
	b.mu.Lock()
	if b.generation != generation {
		b.mu.Unlock()
		b.tell() // it was lost meanwhile, and may be back already
		return nil
	}
	away := b.err
	b.err = nil
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(b.ctx))
	b.current.Store(l)
	close(b.changed)
	b.changed = make(chan struct{})
	b.mu.Unlock()
	b.first.Do(func() { close(b.attempted) })
	if away != nil && b.trouble() == nil { // otherwise it takes no events yet, and its end is told
		logging.FromContext(b.ctx).Infow("the bus is back", "bus", b.o.Name)
	}
	return nil
}

// deny ends what waits for an answer to what was published on the subject, which the server did not take.
func (l *link) deny(subject string, err error) {
	l.pub.deny(subject, err)
	if !strings.HasPrefix(subject, "$JS.API.") {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.streams {
		if q.concerns(subject) {
			q.cancel(err)
		}
	}
}

// whyDenied returns err, of a request, or that the server refused to take it: then err says only that no answer came.
func (b *Bus) whyDenied(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.denied == nil {
		return err
	}
	return fmt.Errorf("nats %s: %w", b.dialed, natsaccess.Denied(b.denied, "$JS.>, _INBOX.>, openfunction.> and the topics of subscribers"))
}

// lose ends the link, if there is one.
func (b *Bus) lose(err error) {
	b.mu.Lock()
	news := b.err == nil && !b.closed
	b.err = err
	b.generation++
	if l := b.current.Swap(nil); l != nil {
		l.cancel()
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.mu.Unlock()
	b.first.Do(func() { close(b.attempted) })
	if news && b.trouble() == nil { // otherwise that is told, and the server starts again because of it
		logging.FromContext(b.ctx).Warnw("the bus is away", "bus", b.o.Name, "error", b.why())
	}
}

// flush waits until what was sent has arrived.
func (b *Bus) flush(nc *nats.Conn, pub *publisher) {
	if !nc.IsConnected() {
		return
	}
	pub.settle(requestTimeout)
	if err := nc.FlushTimeout(requestTimeout); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		logging.FromContext(b.ctx).Warnw("the bus was closed before it had everything", "bus", b.o.Name, "error", fmt.Errorf("flush: %w", err))
	}
}
