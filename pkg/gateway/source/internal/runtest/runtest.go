// Package runtest runs a source in a test of its kind, and takes what it hands on.
package runtest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
)

// Deadline bounds how long a test waits for what must happen.
const Deadline = 60 * time.Second

// Running is a source that runs until the test ends.
type Running struct {
	// Ready has what ready was called with, but for what AwaitReady took.
	Ready chan error
	// Stop tells the source to end, and does not wait.
	Stop context.CancelFunc

	t    testing.TB
	done chan struct{}
	err  error // valid once done is closed
}

// Start runs a source.
func Start(t testing.TB, s source.Source, next event.Handler, log *zap.SugaredLogger) *Running {
	t.Helper()
	ctx, stop := context.WithCancel(logging.WithLogger(context.Background(), log))
	r := &Running{Ready: make(chan error, 1000), Stop: stop, t: t, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.Run(ctx, next, func(err error) { r.Ready <- err })
	}()
	t.Cleanup(r.End)
	return r
}

// End stops the source and waits until it has.
func (r *Running) End() {
	r.Stop()
	select {
	case <-r.done:
	case <-time.After(Deadline):
		r.t.Errorf("Run() has not returned %s after its context was done", Deadline)
		return
	}
	if r.err != nil {
		r.t.Errorf("Run() = %v", r.err)
	}
}

// AwaitReady waits until ready was called with nil, or with an error if not ok, and returns that.
func (r *Running) AwaitReady(ok bool) error {
	r.t.Helper()
	timeout := time.After(Deadline)
	var last error
	for {
		select {
		case err := <-r.Ready:
			if (err == nil) == ok {
				return err
			}
			last = err
		case <-r.done:
			r.t.Fatalf("Run() = %v", r.err)
		case <-timeout:
			r.t.Fatalf("ready was not called, ok %t; last it was called with %v", ok, last)
		}
	}
}

// Eventually waits until cond is true.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(Deadline); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %s: %s", Deadline, what)
		}
	}
}
