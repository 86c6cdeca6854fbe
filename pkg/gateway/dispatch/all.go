package dispatch

import (
	"context"
	"errors"

	"github.com/openfunction/events/pkg/event"
)

// All returns a handler that hands each event to every one of handlers at once, and fails if any of them does.
func All(handlers ...event.Handler) event.Handler {
	if len(handlers) == 1 {
		return handlers[0]
	}
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		failures := make(chan error, len(handlers))
		for _, h := range handlers[1:] {
			go func() { failures <- h.Handle(ctx, e) }()
		}
		err := handlers[0].Handle(ctx, e)
		for range handlers[1:] {
			err = errors.Join(err, <-failures)
		}
		return err
	})
}

// Then returns a handler that calls done after next took an event.
func Then(next event.Handler, done func(e *event.Event)) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		if err := next.Handle(ctx, e); err != nil {
			return err
		}
		done(e)
		return nil
	})
}
