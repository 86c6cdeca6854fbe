package dispatch

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

func TestAnOutageIsSaidOnce(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	ctx := logging.WithLogger(t.Context(), zap.New(core).Sugar())
	failures := 0
	var failure error
	r := &retry{
		delivery: plan.Delivery{Retry: -1},
		wait:     func(context.Context, time.Duration) error { return nil },
		next: event.HandlerFunc(func(context.Context, *event.Event) error {
			if failures == 0 {
				return nil
			}
			failures--
			return failure
		}),
	}
	steps := []struct {
		name     string
		failures int
		err      error
		want     int // lines since the beginning
	}{
		{"nothing is said of what works", 0, nil, 0},
		{"a hundred failures of one delivery are two lines with its success", 100, errors.New("connection refused"), 2},
		{"a target that comes and goes is not said again at once", 1, errors.New("connection refused"), 2},
		{"a bus that is away has said so", 1, event.Said(&event.Unavailable{What: "bus", Err: errors.New("gone")}), 2},
	}
	for _, s := range steps {
		failures, failure = s.failures, s.err
		if err := r.Handle(ctx, newEvent(t, "text/plain", nil)); err != nil {
			t.Fatal(err)
		}
		if got := logs.Len(); got != s.want {
			t.Errorf("%s: %d lines, want %d: %v", s.name, got, s.want, logs.All())
		}
	}
}
