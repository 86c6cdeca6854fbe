// Package bus is what a message broker must do for the data plane: take events on a topic and hand them to durable subscriptions.
package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/room"
)

// ErrConnecting is why a bus is not ready that is connecting for the first time.
var ErrConnecting = errors.New("not connected yet")

// firstWait is how long the first publications wait for the first connection of a bus.
const firstWait = 2 * time.Second

// AwaitFirst returns when the first connection of a bus has succeeded or failed, the bus is closed, or two seconds are over. Its error is that of ctx.
func AwaitFirst(ctx context.Context, attempted, closed <-chan struct{}) error {
	select {
	case <-attempted:
		return nil
	default:
	}
	timer := time.NewTimer(firstWait)
	defer timer.Stop()
	select {
	case <-attempted:
	case <-closed:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Bus carries events by topic. All its methods may be called from many goroutines at once.
// It connects by itself and keeps trying: a broker that is away makes publishing fail with *event.Unavailable, never the process.
type Bus interface {
	// Topic returns a handler that publishes on the topic and returns nil once the broker has persisted the event.
	// It does not wait for the broker; what is wrong shows when an event is handled.
	Topic(t Topic) event.Handler

	// Subscribe creates the durable subscription if the broker does not have it, and calls receive, one message after the other in the
	// broker's order, until ctx is done. Then it stops receiving, waits until every message it handed over is Done or grace has
	// passed, and returns nil. It reconnects by itself. An error is one that only a change of s or of the broker's settings can cure.
	// receive may block to slow the bus down, but returns soon once ctx is done. A message may come again, with equal Stored and
	// Sequence, when the broker forgot its acknowledgement; one that this process still holds does not.
	Subscribe(ctx context.Context, s Subscription, receive func(*Message)) error

	// Unsubscribe removes the durable subscription and what it still holds. Removing one that is not there is not an error.
	// End every Subscribe of that name first: one that runs creates the subscription anew.
	Unsubscribe(ctx context.Context, s Subscription) error

	// Ready returns nil while the broker answers, and otherwise an error that says why it does not.
	Ready() error

	// Losing returns how the broker, as it is set up, loses events that it has taken, in a sentence that says what to do, or "". It does not wait for the
	// broker. Events flow all the same.
	Losing() string

	// Close ends every Subscribe without grace, flushes and disconnects: what is not Done comes again later.
	// Calling it twice is safe; calling it from receive is not.
	Close() error
}

// Topic is where events are published.
type Topic struct {
	// Name is the topic, as the plan has it.
	Name string
	// Origin is who publishes there besides the event's producer, for example a subscriber's id. Two publications of one event
	// (equal source and id) by one origin on one topic are duplicates, which a bus that can drops; by two origins they are not.
	Origin string
}

// Subscription is a durable subscription: the broker remembers under Name what has been acknowledged.
type Subscription struct {
	// Name is unique on the bus: letters, digits, '-' and '_', at most 200 characters.
	Name string
	// Topics are what it receives, at least one.
	Topics []string
	// MaxInFlight bounds the messages that are received but not Done; zero means 256.
	MaxInFlight int
	// Grace is how long to wait for messages in flight when the subscription ends; zero means 10 s.
	Grace time.Duration
	// Room, when set, bounds the bytes of the messages that are received but not Done, on buses that can: what does not fit stays on the broker.
	Room *room.Share
	// Ordered makes what was received and is not Done, by a process that ended, come again in the broker's order and before what is new, also if
	// that takes as long as the broker waits for it; after a kill -9 on buses that can. Only one process may receive then.
	Ordered bool
	// Ready, when set, is called with nil once the subscription exists on the broker and receives, and with an error when it ceases to, or cannot be set
	// up: one that IsRefused is true of if the broker said so.
	Ready func(error)
}

// Message is an event that a subscription received and that the broker keeps until it is acknowledged.
// The bus keeps the broker from sending it again while it is not Done, however long that takes.
type Message struct {
	// Event is what was published. If the broker's bytes were not a CloudEvent, it is one that wraps them (see Wrap) and Malformed says why.
	Event     *event.Event
	Malformed error
	Topic     string
	// Stored is when the broker stored it; Sequence orders the messages of a topic.
	Stored   time.Time
	Sequence uint64

	done  uint32 // accessed atomically; not an atomic.Bool, since a Message may be copied before it is handed over
	reply func(err error)
}

// NewMessage returns a message that calls reply, once, with what Done is called with.
func NewMessage(m Message, reply func(err error)) *Message {
	return &Message{Event: m.Event, Malformed: m.Malformed, Topic: m.Topic, Stored: m.Stored, Sequence: m.Sequence, reply: reply}
}

// Done acknowledges the message when err is nil; otherwise the broker sends it again after a moment.
// Any goroutine may call it; only the first call counts.
func (m *Message) Done(err error) {
	if atomic.CompareAndSwapUint32(&m.done, 0, 1) {
		m.reply(err)
	}
}
