package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

// awayPause bounds the pauses while a bus is away: it comes back as a whole, and to ask it costs next to nothing.
const awayPause = 5 * time.Second

// Insist returns a handler that hands an event to next, which does its own retries, until it is taken: it returns nil or, when ctx is done, an
// error that wraps ErrStopped. It is for what has nowhere else to go, such as an event whose dead letter is refused too, and may not be lost:
// that is tried at growing intervals of up to a minute. The price is a goroutine that sleeps for each event that waits so.
//
// What the place of its dead letter will never take, see event.DataOmitted, has nowhere to go either: that it is lost is said as an error.
func Insist(next event.Handler) event.Handler {
	return &insist{next: sayLost(next), pauses: insistPauses()}
}

// insistUntilRefused is Insist that also ends with an error that is permanent.
func insistUntilRefused(next event.Handler) event.Handler {
	return &insist{next: next, pauses: insistPauses(), refusable: true}
}

func insistPauses() retry {
	return retry{delivery: plan.Delivery{BackoffDelay: time.Second, RetryAfterMax: maxBackoff}}
}

type insist struct {
	next      event.Handler
	pauses    retry
	refusable bool
	stuck     atomic.Int32 // events that were not taken and wait
	outage    outage
}

func (i *insist) Handle(ctx context.Context, e *event.Event) error {
	err := i.next.Handle(ctx, e)
	if i.isOver(err) {
		return err
	}
	i.stuck.Add(1)
	for attempt := 0; !i.isOver(err); attempt++ {
		i.outage.begins(ctx, e, err)
		pause := i.pauses.pause(attempt, err)
		if away := (*event.Unavailable)(nil); errors.As(err, &away) {
			pause = min(pause, max(awayPause, away.After))
		}
		if sleep(ctx, pause) != nil {
			err = fmt.Errorf("%w: %w", ErrStopped, err)
			break
		}
		err = i.next.Handle(ctx, e)
	}
	switch last := i.stuck.Add(-1) == 0; {
	case last && err == nil:
		i.outage.ends(ctx, e)
	case last && !errors.Is(err, ErrStopped):
		i.outage.Ends() // nothing waits any more
	}
	return err
}

func (i *insist) isOver(err error) bool {
	return err == nil || errors.Is(err, ErrStopped) || i.refusable && event.IsPermanent(err)
}

func sayLost(next event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if omitted := (*event.DataOmitted)(nil); errors.As(err, &omitted) {
			logging.FromContext(ctx).Errorw("event is refused for good, and no dead letter has all of it: the rest is lost", "id", event.Short(e.ID()), "bytes", omitted.Bytes, "error", err)
			return nil
		}
		return err
	})
}
