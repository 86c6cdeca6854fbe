// Package kafka is the bus over Apache Kafka: one Kafka topic for each topic, one consumer group for each subscription.
package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// SessionTimeout is after how long the brokers give what a process held to another one, when that process gives no sign of life.
	SessionTimeout = 10 * time.Second

	// retryAfter is what publishers are told when the brokers are away.
	retryAfter = time.Second
	// closeTimeout bounds the goodbyes when a subscription or the bus ends.
	closeTimeout = 5 * time.Second
)

var errClosed = errors.New("the bus is closed")

// Options are what a Bus needs.
type Options struct {
	// Name is what messages call the bus, for example "EventBus default/default".
	Name   string
	Config plan.KafkaBus
	// Dial makes the connections, also to the addresses that brokers advertise; nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Instance is the client id that brokers see.
	Instance string
}

// Bus is a bus.Bus over Apache Kafka. What is particular to it:
//
//   - Kafka keeps the order of a partition. Events with one partitionkey go to one partition; those without any to all of them,
//     but all publications of one event, its source and id, to the same.
//   - A subscription is a consumer group. What it has acknowledged is an offset, before which all is done, and, in the metadata of that
//     offset, what is done beyond it. So a message that is held for long does not make others come again after a crash.
//   - Members share the partitions. One that holds messages keeps their partitions when others come and go.
//   - A topic deletes what is older than its retention, acknowledged or not. A subscription that was too slow says so in the log.
//   - The brokers drop no duplicates, so that Topic.Origin is of no use to them; see package once.
type Bus struct {
	o       Options
	ctx     context.Context // done when Close begins; carries the logger
	cancel  context.CancelFunc
	life    context.Context // done when what Close waits for has ended
	end     context.CancelFunc
	stopped chan struct{} // closed when the connection is closed

	first     sync.Once
	attempted chan struct{} // closed when the first connection succeeded or failed

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // Subscribes and Unsubscribes; begun under mu
	current *link          // nil while the brokers are away
	err     error          // why they are; nil before the first attempt has ended
	dialer  *kafkaclient.Dialer
	changed chan struct{} // closed and replaced when current changes

	losing    map[string]string // by topic, how it loses events
	inspected time.Time         // when all topics were last looked at

	told sync.Map // what inspect has logged
}

var _ bus.Bus = (*Bus)(nil)

// New returns a Bus that connects in the background. Close it. ctx carries the logger; that it is done means nothing to the Bus.
func New(ctx context.Context, o Options) *Bus {
	if o.Config.MaxInFlight == 0 {
		o.Config.MaxInFlight = bus.DefaultMaxInFlight
	}
	b := &Bus{o: o, stopped: make(chan struct{}), attempted: make(chan struct{}), changed: make(chan struct{}), losing: map[string]string{}}
	ctx = context.WithoutCancel(ctx)
	b.ctx, b.cancel = context.WithCancel(ctx)
	b.life, b.end = context.WithCancel(ctx)
	go b.run()
	return b
}

// Ready implements bus.Bus.
func (b *Bus) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil && !b.closed {
		return nil
	}
	return b.unavailable(b.why())
}

// isAway tells whether there is no connection, also while the bus is closed.
func (b *Bus) isAway() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current == nil
}

// why returns the reason that there is no connection. The lock is held.
func (b *Bus) why() error {
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

func (b *Bus) explain(err error) error { return kafkaclient.Explain(err, b.o.Config.KafkaAccess) }

// up returns the connection. It waits only for the first one, and not for long.
func (b *Bus) up(ctx context.Context) (*link, error) {
	if err := bus.AwaitFirst(ctx, b.attempted, b.ctx.Done()); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil {
		return b.current, nil
	}
	return nil, b.unavailable(b.why())
}

// await returns the connection once there is one, or nil when ctx is done.
func (b *Bus) await(ctx context.Context) *link {
	for {
		b.mu.Lock()
		l, changed := b.current, b.changed
		b.mu.Unlock()
		if l != nil {
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
	b.end()
	late := time.AfterFunc(closeTimeout, b.hangUp)
	defer late.Stop()
	<-b.stopped
	return nil
}

// hangUp ends the connections, whoever waits for an answer.
func (b *Bus) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dialer != nil {
		b.dialer.Close()
	}
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
