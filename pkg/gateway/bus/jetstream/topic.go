package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// topic publishes on one subject.
type topic struct {
	bus.Topic
	b *Bus
	// ready is the link in which the topic's stream is known to exist.
	ready atomic.Pointer[link]
}

// Topic implements bus.Bus.
func (b *Bus) Topic(t bus.Topic) event.Handler { return &topic{Topic: t, b: b} }

// Handle publishes e and waits until the server has stored it. Publications of many goroutines share round trips.
func (t *topic) Handle(ctx context.Context, e *event.Event) error {
	if err := t.publish(ctx, e); err != nil {
		return fmt.Errorf("publish %s to %s: %w", event.Short(e.ID()), t.Name, err)
	}
	return nil
}

func (t *topic) publish(ctx context.Context, e *event.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := t.b.up(ctx)
	if err != nil {
		return t.b.refusal(ctx, err)
	}
	if t.ready.Load() != l {
		if _, err := t.b.streamOf(ctx, l, t.Name); err != nil {
			return t.b.refusal(ctx, err)
		}
		t.ready.Store(l)
	}
	m := encode(t.Topic, e)
	if err = l.pub.publish(ctx, l.ctx.Done(), t.b.stopped, m); err == nil {
		t.b.inspectAgain(l)
		return nil
	}
	closed := code(err) == jetstream.JSErrCodeStreamMessageExceedsMaximum && t.b.wasClosed(ctx, l, t.Name)
	if closed {
		err = errStreamClosed
	}
	if closed || errors.Is(err, jetstream.ErrNoStreamResponse) { // someone removed the stream: the next event makes or opens it again
		l.forget(t.Name)
		t.ready.Store(nil)
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload) && t.b.o.InProcess != nil: // nobody can raise it
		most := l.nc.MaxPayload()
		err = tooLarge(fmt.Errorf("its %d bytes are more than the %d (%d MiB) that an embedded bus takes", m.Size(), most, most>>20))
	case errors.Is(err, nats.ErrMaxPayload):
		err = tooLarge(fmt.Errorf("its %d bytes are more than the server's max_payload of %d: %w", m.Size(), l.nc.MaxPayload(), err))
	case code(err) == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		err = tooLarge(fmt.Errorf("its %d bytes are more than the stream's max_msg_size: %w", m.Size(), err))
	case code(err) == codeHeaderTooLarge:
		err = tooLarge(fmt.Errorf("its attributes are more than the 64 KiB that the server takes as headers: %w", err))
	}
	return t.b.refusal(ctx, err)
}

var errStreamClosed = errors.New("the stream of events is new and not open yet")

// refusal says what an error of publishing means for the publisher.
func (b *Bus) refusal(ctx context.Context, err error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if event.IsPermanent(err) {
		return err
	}
	if why := b.trouble(); why != nil {
		u := b.unavailable(errNoDisk)
		if u.Full = errors.Is(why, syscall.ENOSPC); u.Full {
			u.Err = errDiskFull
		}
		return u
	}
	if away := (*event.Unavailable)(nil); errors.As(err, &away) {
		return err
	}
	u := b.unavailable(err)
	switch code(err) {
	case codeAccountExceeded, codeServerExceeded, codeMemoryExceeded, codeStorageExceeded:
		u.Full = true
	case codeStoreFailed:
		noSpace := strings.Contains(err.Error(), "no space")
		if u.Full = noSpace || strings.Contains(err.Error(), "maximum"); noSpace {
			u.Err = errDiskFull
		}
	}
	return u
}

func tooLarge(err error) error { return event.Permanent(fmt.Errorf("%w: %w", event.ErrTooLarge, err)) }
