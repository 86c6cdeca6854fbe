package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// maxBackoff caps every wait but the one that a sink asks for.
	maxBackoff = time.Minute
	// minForever is the least first wait of what has no end: without one, it would never grow.
	minForever = 100 * time.Millisecond
	// lastAttempt is how much longer an attempt may take that was under way when its context ended.
	lastAttempt = 5 * time.Second
)

// ErrStopped is wrapped by the error of a delivery that ended because its context did: it has neither succeeded nor failed.
var ErrStopped = errors.New("stopped before it was delivered")

// Retry returns a handler that tries next as often as d says. Once ctx is done it makes no further attempt, and the one under way
// gets five more seconds: the event is then for whoever holds it to deliver again.
func Retry(next event.Handler, d plan.Delivery) event.Handler {
	return &retry{next: next, delivery: d, wait: sleep}
}

// Forever is Retry without an end: it returns nil or, when ctx is done, an error that wraps ErrStopped.
func Forever(next event.Handler, d plan.Delivery) event.Handler {
	d.Retry, d.BackoffDelay = -1, max(d.BackoffDelay, minForever)
	return &retry{next: next, delivery: d, wait: sleep}
}

// ForeverLetters is Forever for dead letters: it also returns when one is too large, so that a smaller one can be tried.
func ForeverLetters(next event.Handler, d plan.Delivery) event.Handler {
	d.Retry, d.BackoffDelay = -1, max(d.BackoffDelay, minForever)
	return &retry{next: next, delivery: d, letters: true, wait: sleep}
}

// Failing tells why h, a handler that retries, did not deliver the last event that it tried, with the error of the first of those that failed one
// after the other. It is "" when the last was delivered, or there was none.
func Failing(h event.Handler) string {
	if r, ok := h.(*retry); ok {
		if why := r.failing.Load(); why != nil {
			return *why
		}
	}
	return ""
}

type retry struct {
	next     event.Handler
	delivery plan.Delivery
	letters  bool
	wait     func(ctx context.Context, d time.Duration) error
	outage   outage
	failing  atomic.Pointer[string] // see Failing
}

func (r *retry) Handle(ctx context.Context, e *event.Event) error {
	for attempt := 0; ; attempt++ {
		err := r.attempt(ctx, e)
		if err == nil {
			r.outage.ends(ctx, e)
			if r.failing.Load() != nil {
				r.failing.Store(nil)
			}
			return nil
		}
		if r.failing.Load() == nil {
			why := Brief(err)
			r.failing.Store(&why)
		}
		forever := r.delivery.Retry < 0
		if event.IsPermanent(err) && (!forever || r.letters && errors.Is(err, event.ErrTooLarge)) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrStopped, err)
		}
		if !forever && attempt >= r.delivery.Retry {
			if attempt == 0 {
				return fmt.Errorf("after 1 attempt: %w", err)
			}
			return fmt.Errorf("after %d attempts: %w", attempt+1, err)
		}
		r.outage.begins(ctx, e, err)
		if r.wait(ctx, r.pause(attempt, err)) != nil {
			return fmt.Errorf("%w: %w", ErrStopped, err)
		}
	}
}

// Brief is what of err more people may read than the log, and what stays the same when the same happens to another event: it has neither the
// event's id nor an answer's body, which may repeat what is in an event.
func Brief(err error) string {
	var status *StatusError
	var away *event.Unavailable
	var omitted *event.DataOmitted
	switch {
	case errors.As(err, &omitted):
		return Brief(omitted.Err) + ": raise that limit or send less"
	case errors.As(err, &status):
		err = &StatusError{URL: status.URL, Code: status.Code}
	case errors.As(err, &away):
		err = away
	case errors.Is(err, event.ErrTooLarge): // whoever has seen the limit says what it is
		for inner := errors.Unwrap(err); inner != event.ErrTooLarge && errors.Is(inner, event.ErrTooLarge); inner = errors.Unwrap(err) {
			err = inner
		}
	}
	return err.Error()
}

func (r *retry) attempt(ctx context.Context, e *event.Event) error {
	timeout := r.delivery.Timeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		// The timer outlives the attempt by at most lastAttempt and then does nothing.
		time.AfterFunc(lastAttempt, cancel)
	})
	defer stop()
	err := r.next.Handle(attempt, e)
	if errors.Is(err, context.DeadlineExceeded) && attempt.Err() == context.DeadlineExceeded {
		late := fmt.Sprintf("no answer within %s (delivery.timeout)", timeout)
		return &hidden{err, strings.Replace(err.Error(), context.DeadlineExceeded.Error(), late, 1)}
	}
	return err
}

// pause is how long to wait after the failed attempt of this number, counted from zero: the backoff, give or take a tenth so that many
// failed together do not come back together, or longer if the sink asked for it.
func (r *retry) pause(attempt int, err error) time.Duration {
	wait := min(r.delivery.BackoffDelay, maxBackoff) // what follows cannot overflow then
	if r.delivery.Linear {
		wait *= time.Duration(min(attempt, 1<<20) + 1)
	} else {
		wait <<= min(attempt, 20)
	}
	if wait > maxBackoff || wait < 0 {
		wait = maxBackoff
	}
	if wait > 0 {
		wait += time.Duration((rand.Float64() - 0.5) / 5 * float64(wait))
	}
	var status *StatusError
	if errors.As(err, &status) && status.RetryAfter > 0 {
		wait = max(wait, min(status.RetryAfter, r.delivery.RetryAfterMax))
	}
	var away *event.Unavailable
	if errors.As(err, &away) {
		wait = max(wait, away.After)
	}
	return max(wait, time.Millisecond)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
