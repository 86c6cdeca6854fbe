// Package cron makes events on a schedule.
package cron

import (
	"context"
	"time"

	"github.com/robfig/cron/v3"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/flood"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// maxSleep bounds how long a change of the clock goes unnoticed.
	maxSleep = time.Minute
	// maxLate is how late a tick may still become an event.
	maxLate = time.Minute
	// maxInFlight bounds the ticks that are being handed over at once.
	maxInFlight = 100
	// stopGrace is how long hand-overs may go on after Run's context is done.
	stopGrace = 5 * time.Second
)

// Options are what a Source needs.
type Options struct {
	// Source is a plan's; its Cron is set.
	Source plan.Source
	// Schedule is Source.Cron's, parsed.
	Schedule cron.Schedule
	// Now and After tell the time and wait; nil means time.Now and time.After.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// Source makes an event at each tick of a schedule.
//
// The event's id is the tick, so that two instances make equal events. Ticks that pass while nothing runs, while the machine sleeps or
// while no place is free are not made up for: of those that are due at once only the latest counts, and only within a minute. When the clock is
// set back by more than a minute its ticks happen again, with the ids they had.
type Source struct {
	o Options
	// places holds one token for each tick that is being handed over.
	places   chan struct{}
	refusals flood.Refusals
}

var _ source.Source = (*Source)(nil)

// New returns the source of o.
func New(o Options) *Source {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	return &Source{o: o, places: make(chan struct{}, maxInFlight)}
}

// Run implements source.Source. Ticks after its start count.
func (s *Source) Run(ctx context.Context, next event.Handler, ready func(error)) error {
	h := newHandOver(ctx, s, next)
	defer h.wait()
	ready(nil)
	// tick is the latest that has been dealt with.
	for tick := s.now(); ; {
		now := s.now()
		if now.Before(tick.Add(-maxLate)) {
			logging.FromContext(ctx).Warnw("clock was set back, its ticks happen again", "from", moment(tick), "to", moment(now))
			tick = now
		}
		due := s.o.Schedule.Next(tick)
		if due.IsZero() { // a date that never comes
			<-ctx.Done()
			return nil
		}
		if due.After(now) {
			select {
			case <-s.o.After(min(due.Sub(now), maxSleep)):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		latest, ok := s.latest(due, now)
		if !ok || !latest.Equal(due) {
			logging.FromContext(ctx).Warnw("ticks were missed and are skipped", "from", moment(due), "to", moment(now))
		}
		tick = now
		if !ok {
			continue
		}
		tick = latest
		if !h.start(ctx, latest) {
			return nil
		}
	}
}

// moment is t in the log, with its date, which the console leaves out.
func moment(t time.Time) string { return t.Format(time.RFC3339) }

// now is the time on the clock: a monotonic one stands still while the machine sleeps.
func (s *Source) now() time.Time { return s.o.Now().Round(0) }

// latest returns the last tick that is due, from the given one on, unless it is too late for it.
func (s *Source) latest(due, now time.Time) (time.Time, bool) {
	if oldest := now.Add(-maxLate); due.Before(oldest) {
		due = s.o.Schedule.Next(oldest.Add(-time.Nanosecond))
	}
	if due.IsZero() || due.After(now) {
		return time.Time{}, false
	}
	for {
		following := s.o.Schedule.Next(due)
		if following.IsZero() || following.After(now) || !following.After(due) {
			return due, true
		}
		due = following
	}
}
