package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// topic publishes on one Kafka topic.
type topic struct {
	name string
	b    *Bus
	// ready is the link in which the topic is known to exist.
	ready atomic.Pointer[link]
}

// Topic implements bus.Bus.
func (b *Bus) Topic(t bus.Topic) event.Handler { return &topic{name: t.Name, b: b} }

// Handle publishes e and waits until all replicas in sync have it. Publications of many goroutines share round trips.
func (t *topic) Handle(ctx context.Context, e *event.Event) error {
	if err := t.publish(ctx, e); err != nil {
		return fmt.Errorf("publish %s to %s: %w", event.Short(e.ID()), t.name, err)
	}
	return nil
}

func (t *topic) publish(ctx context.Context, e *event.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkTopic(t.name); err != nil { // whether or not the brokers are there
		return event.Permanent(err)
	}
	l, err := t.b.up(ctx)
	if err != nil {
		return err
	}
	if t.ready.Load() != l {
		if err := l.ensure(ctx, t.name); err != nil {
			return l.b.refusal(ctx, err)
		}
		t.ready.Store(l)
	}
	if err = l.send(ctx, t.name, e); err == nil {
		return nil
	}
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) { // someone removed it: the next event makes it again
		l.forget(t.name)
		t.ready.Store(nil)
	}
	return l.b.refusal(ctx, err)
}

func (l *link) send(ctx context.Context, topic string, e *event.Event) error {
	m, err := encode(topic, e)
	if err != nil {
		return event.Permanent(err)
	}
	again := *m
	if err = l.shared.send(ctx, m); tooLarge(err) {
		err = l.sendAlone(ctx, &again)
	}
	return err
}

// sendAlone publishes a record that is larger than a batch, or that was in one which a broker did not take as it was too large.
func (l *link) sendAlone(ctx context.Context, m *sarama.ProducerMessage) error {
	p, err := l.alone()
	if err != nil {
		return err
	}
	err = p.send(ctx, m)
	if tooLarge(err) {
		return event.Permanent(fmt.Errorf("%w: its %d bytes are more than the topic's max.message.bytes: %w", event.ErrTooLarge, m.ByteSize(2), err))
	}
	return err
}

func (l *link) alone() (*producer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errLost
	}
	if l.single != nil {
		return l.single, nil
	}
	config := *l.config
	config.Producer.MaxMessageBytes, config.Producer.Flush.MaxMessages = singleSize, 1
	client, err := l.newClient(&config)
	if err != nil {
		return nil, err
	}
	p, err := newProducer(client, l.lost)
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	p.own = true
	l.single = p
	return p, nil
}

// refusal says what an error of publishing means for the publisher.
func (b *Bus) refusal(ctx context.Context, err error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch {
	case event.IsPermanent(err):
		return err
	case errors.Is(err, errLost):
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.current == nil {
			err = fmt.Errorf("%w: %w", errLost, b.why())
		}
		return b.unavailable(err)
	case errors.Is(err, sarama.ErrInvalidRecord):
		err = fmt.Errorf("the topic refuses the event, as those do that are compacted if it has no partitionkey: set its cleanup.policy to delete: %w", err)
	}
	u := b.unavailable(b.explain(err))
	u.Full = errors.Is(err, sarama.ErrKafkaStorageError) // the disk takes no more
	return u
}
