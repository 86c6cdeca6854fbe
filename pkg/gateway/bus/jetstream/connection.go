package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"

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
	if explained := natsaccess.Explain(b.o.Config.NATSAccess, b.o.Config.URL, err); explained != nil {
		return explained
	}
	return err
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
	retry := func(*nats.Conn, error) { b.tell() } // maintain finds out why
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
		nats.ReconnectErrHandler(retry),
		nats.ErrorHandler(b.asyncError),
	}
	if b.o.InProcess != nil {
		return append(options, nats.InProcessServer(b.o.InProcess))
	}
	// The dialer resolves names: it may lead somewhere else than the system's resolver does.
	return append(options, nats.SetCustomDialer(&dialer{b: b}), func(o *nats.Options) error { o.SkipHostLookup = true; return nil })
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
	if denied := b.denial(err); denied != nil {
		b.deny(denied)
		return
	}
	var broken net.Error
	if errors.As(err, &broken) || errors.Is(err, io.ErrClosedPipe) {
		return // likewise: this comes with every write until the connection is known to be lost
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	logging.FromContext(b.ctx).Warnw("the bus reports an error", "bus", b.o.Name, "subject", subject, "error", err)
}

// dialer is the nats.CustomDialer of one client, whose connections end with ctx, if that is not nil. The client has one at a time, and leaves
// that of an attempt that was refused to the garbage collector.
type dialer struct {
	b    *Bus
	ctx  context.Context
	last net.Conn
}

// Dial closes the connection before, and is called by one goroutine at a time.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if d.last != nil {
		_ = d.last.Close()
		d.last = nil
	}
	if d.ctx == nil {
		d.ctx = d.b.ctx
	}
	ctx, cancel := context.WithTimeout(d.ctx, requestTimeout)
	defer cancel()
	c, err := d.b.o.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.last = c
	if d.ctx != d.b.ctx {
		context.AfterFunc(d.ctx, func() { _ = c.Close() })
	}
	return natsaccess.Wary(c, d.b.o.Config.URL), nil
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
	doctor := doctor{b: b, nc: nc}
	defer doctor.stop()
	var pause backoff
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
			doctor.start()
			retry.Reset(reopenWait)
			continue
		}
		doctor.stop()
		if b.current.Load() == nil {
			if err := b.open(nc, js, pub); err != nil {
				b.lose(err)
				retry.Reset(pause.after(err, reopenWait))
			} else {
				pause = backoff{}
			}
		}
		if denied := b.isDeaf(); denied != nil {
			b.lose(denied)
			b.pause(pause.after(denied, 0))
			b.listen(nc)
		}
	}
}

// open checks that the server does what we need and makes the link known.
func (b *Bus) open(nc *nats.Conn, js jetstream.JetStream, pub *publisher) error {
	b.mu.Lock()
	generation := b.generation
	b.mu.Unlock()
	ctx, end := b.watch(b.ctx, func(subject string) bool {
		return concernsStream(subject, eventsName, "") || concernsStream(subject, eventsName, latecomersName)
	})
	defer end()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l := &link{nc: nc, js: js, pub: pub, streams: map[string]*lookup{}}
	if err := b.ensure(ctx, l, b.eventsStream()); err != nil {
		return whyDenied(ctx, err)
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

// lose ends the link, if there is one.
func (b *Bus) lose(err error) {
	b.mu.Lock()
	news := b.err == nil && !b.closed
	if b.err == nil || !errors.Is(err, nats.ErrDisconnected) { // which says less than what is known
		b.err = err
	}
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
