// Package memory is a bus within the process, for tests: it forgets everything when the process ends.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// capacity bounds what one subscription holds; a full one makes publishing fail.
const capacity = 1 << 17

var errClosed = errors.New("the connection is closed")

// Bus is a connection to a broker in memory.
type Bus struct {
	broker *broker

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

var _ bus.Bus = (*Bus)(nil)

// New returns a connection to a new, empty broker.
func New() *Bus { return connect(&broker{subscriptions: map[string]*subscription{}}) }

// Connect returns another connection to the same broker.
func (b *Bus) Connect() *Bus { return connect(b.broker) }

func connect(br *broker) *Bus { return &Bus{broker: br, closing: make(chan struct{})} }

// Topic implements bus.Bus. Duplicates are not dropped.
func (b *Bus) Topic(t bus.Topic) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("publish %s to %s: %w", event.Short(e.ID()), t.Name, err)
		}
		if err := b.Ready(); err != nil {
			return fmt.Errorf("publish %s to %s: %w", event.Short(e.ID()), t.Name, err)
		}
		return b.broker.publish(t.Name, e)
	})
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(ctx context.Context, s bus.Subscription, receive func(*bus.Message)) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if !b.begin() {
		return fmt.Errorf("subscribe %s: %w", s.Name, errClosed)
	}
	defer b.running.Done()
	m := &member{subscription: b.broker.subscribe(s), limit: cmp.Or(s.MaxInFlight, bus.DefaultMaxInFlight), ordered: s.Ordered, idle: make(chan struct{}, 1)}
	if s.Ready != nil {
		s.Ready(nil)
	}
	m.receive(ctx, b.closing, receive)
	m.drain(cmp.Or(s.Grace, bus.DefaultGrace), b.closing)
	if s.Ready != nil {
		s.Ready(fmt.Errorf("subscription %s ended", s.Name))
	}
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

// Unsubscribe implements bus.Bus.
func (b *Bus) Unsubscribe(_ context.Context, s bus.Subscription) error {
	b.broker.mu.Lock()
	defer b.broker.mu.Unlock()
	delete(b.broker.subscriptions, s.Name)
	return nil
}

// Ready implements bus.Bus.
func (b *Bus) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	return nil
}

// Losing implements bus.Bus.
func (*Bus) Losing() string { return "" }

// Close implements bus.Bus.
func (b *Bus) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	b.mu.Unlock()
	b.running.Wait()
	return nil
}

// broker is what connections share.
type broker struct {
	mu            sync.Mutex
	sequence      uint64
	subscriptions map[string]*subscription
}

func (br *broker) publish(topic string, e *event.Event) error {
	br.mu.Lock()
	defer br.mu.Unlock()
	for name, s := range br.subscriptions {
		if s.full(topic) {
			return &event.Unavailable{What: "bus in memory", Full: true, Err: fmt.Errorf("subscription %s holds %d events", name, capacity)}
		}
	}
	br.sequence++
	now := time.Now()
	for _, s := range br.subscriptions {
		s.add(&item{event: e, topic: topic, stored: now, sequence: br.sequence})
	}
	return nil
}

func (br *broker) subscribe(s bus.Subscription) *subscription {
	br.mu.Lock()
	defer br.mu.Unlock()
	sub := br.subscriptions[s.Name]
	if sub == nil {
		sub = newSubscription()
		br.subscriptions[s.Name] = sub
	}
	sub.setTopics(s.Topics)
	return sub
}
