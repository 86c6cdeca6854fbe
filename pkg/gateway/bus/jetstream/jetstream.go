// Package jetstream is the bus over NATS JetStream.
package jetstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// requestTimeout bounds one exchange with the server.
	requestTimeout = 5 * time.Second
	// retryAfter is what publishers are told when the server is away.
	retryAfter = time.Second

	defaultAckWait = 10 * time.Second
)

var errClosed = errors.New("the bus is closed")

// Options are what a Bus needs.
type Options struct {
	// Name is what messages call the bus, for example "EventBus default/default".
	Name   string
	Config plan.JetStream
	// Dial makes the connections; nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// InProcess, when set, is the server; Config.URL and Dial are not used then.
	InProcess nats.InProcessConnProvider
	// Trouble, when set, returns why the server takes no new events, or nil. It says more than the answers of the server do; its error is
	// syscall.ENOSPC if the server has no room. Ready returns it, publishers are told no more than which of both.
	Trouble func() error
	// Storage of the streams; the zero value is file.
	Storage jetstream.StorageType
}

// Bus is a bus over NATS JetStream.
type Bus struct {
	o       Options
	ctx     context.Context // done when Close begins; carries the logger
	cancel  context.CancelFunc
	shut    chan struct{} // closed when Close has waited for what runs
	stopped chan struct{} // closed when the connection is closed
	signal  chan struct{} // has room for one; told when the connection's state may have changed

	lookEvery time.Duration // see keepUnlimited

	current   atomic.Pointer[link] // nil while the server is away
	first     sync.Once
	attempted chan struct{} // closed when the first connection succeeded or failed

	told sync.Map // what is logged once

	inspected atomic.Int64           // when the settings of the stream of events were last looked at
	losing    atomic.Pointer[string] // see Losing; nil before the first look

	mu         sync.Mutex
	closed     bool
	running    sync.WaitGroup     // Subscribes and lookups; begun under mu
	err        error              // why the server is away; nil before the first attempt has ended
	generation uint64             // counts lost connections
	changed    chan struct{}      // closed and replaced when current changes
	deaf       *natsaccess.Denial // what keeps answers from us on this connection
	watches    map[*watch]struct{}
}

var _ bus.Bus = (*Bus)(nil)

// New returns a Bus that connects in the background. Close it. ctx carries the logger; that it is done means nothing to the Bus.
func New(ctx context.Context, o Options) *Bus {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: requestTimeout}).DialContext
	}
	if o.Config.AckWait == 0 {
		o.Config.AckWait = defaultAckWait
	}
	if o.Config.MaxInFlight == 0 {
		o.Config.MaxInFlight = bus.DefaultMaxInFlight
	}
	b := &Bus{
		o:         o,
		shut:      make(chan struct{}),
		stopped:   make(chan struct{}),
		lookEvery: gatherAtMost(o.Config.AckWait),
		signal:    make(chan struct{}, 1),
		attempted: make(chan struct{}),
		changed:   make(chan struct{}),
		watches:   map[*watch]struct{}{},
	}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go b.run()
	return b
}

// Ready implements bus.Bus.
func (b *Bus) Ready() error {
	if why := b.trouble(); why != nil { // of which that there is no connection may be a part
		return b.unavailable(why)
	}
	if b.current.Load() == nil || b.ctx.Err() != nil {
		return b.unavailable(b.why())
	}
	return nil
}

// trouble returns why the server takes no new events, if it says so, or nil.
func (b *Bus) trouble() error {
	if b.o.Trouble == nil {
		return nil
	}
	return b.o.Trouble()
}

// What publishers are told of trouble, who may be anybody: no paths.
var (
	errDiskFull = errors.New("its disk is full")
	errNoDisk   = errors.New("it cannot use its disk")
)

// why returns the reason that there is no connection.
func (b *Bus) why() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return errClosed
	case b.err == nil:
		return bus.ErrConnecting
	}
	return b.err
}

func (b *Bus) unavailable(err error) *event.Unavailable {
	return &event.Unavailable{What: b.o.Name, After: retryAfter, Err: err}
}

// up returns the connection. It waits only for the first one, and not for long.
func (b *Bus) up(ctx context.Context) (*link, error) {
	if l := b.current.Load(); l != nil {
		return l, nil
	}
	if err := bus.AwaitFirst(ctx, b.attempted, b.ctx.Done()); err != nil {
		return nil, err
	}
	if l := b.current.Load(); l != nil {
		return l, nil
	}
	return nil, b.unavailable(b.why())
}

// await returns the connection once there is one, or nil when ctx is done.
func (b *Bus) await(ctx context.Context) *link {
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if l := b.current.Load(); l != nil {
			return l
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Close implements bus.Bus.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.stopped
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.running.Wait()
	close(b.shut)
	<-b.stopped
	return nil
}

func (b *Bus) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Add(1)
	return true
}
