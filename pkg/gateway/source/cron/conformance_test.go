package cron_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/cron"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
)

// metronome is a clock that stands still until it is told to tick, and the schedule of its ticks.
type metronome struct {
	mu      sync.Mutex
	now     time.Time
	labels  map[string]string      // by tick: the data that the suite calls it by
	readers map[*ticking]time.Time // those that run, with the tick that each has dealt with
}

// tick goes on to the next tick, and returns when every source that runs has seen it.
func (m *metronome) tick(t testing.TB, label string) {
	m.mu.Lock()
	m.now = m.now.Add(time.Second)
	m.labels[m.now.Format(time.RFC3339Nano)] = label
	m.mu.Unlock()
	for end := time.Now().Add(time.Minute); !m.seen(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("tick %s was not seen", label)
		}
	}
}

func (m *metronome) seen() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tick := range m.readers {
		if tick.Before(m.now) {
			return false
		}
	}
	return true
}

func (m *metronome) time() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// ticking is a source that a metronome drives.
type ticking struct {
	*metronome
	source plan.Source
}

// Next implements the schedule.
func (s *ticking) Next(t time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers[s] = t
	return t.Truncate(time.Second).Add(time.Second)
}

func (s *ticking) Run(ctx context.Context, next event.Handler, ready func(error)) error {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.readers, s)
	}()
	spec := s.source
	spec.Cron = &plan.Cron{Schedule: "* * * * * *"}
	c := cron.New(cron.Options{Source: spec, Schedule: s, Now: s.time, After: after})
	labelled := event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		s.mu.Lock()
		label := s.labels[e.ID()]
		s.mu.Unlock()
		named := e.Clone()
		named.DataEncoded = []byte(label)
		return next.Handle(ctx, &named)
	})
	return c.Run(ctx, labelled, func(err error) {
		s.Next(s.time()) // ticks from now on count
		ready(err)
	})
}

// after looks at the clock often: it may have been told to tick.
func after(d time.Duration) <-chan time.Time {
	if d == time.Second {
		d = time.Millisecond
	}
	return time.After(d)
}

// A clock keeps nothing for who is away, and has no credentials.
func TestE2EConformance(t *testing.T) {
	var mu sync.Mutex
	metronomes := map[string]*metronome{}
	var origins atomic.Int64
	of := func(origin string) *metronome {
		mu.Lock()
		defer mu.Unlock()
		return metronomes[origin]
	}
	sourcetest.Run(t, sourcetest.Fixture{
		Kind: "cron",
		Origin: func(testing.TB) string {
			mu.Lock()
			defer mu.Unlock()
			origin := fmt.Sprint("clock ", origins.Add(1))
			metronomes[origin] = &metronome{
				now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), labels: map[string]string{}, readers: map[*ticking]time.Time{},
			}
			return origin
		},
		New: func(_ testing.TB, p sourcetest.Process) source.Source { return &ticking{of(p.Origin), p.Source} },
		Produce: func(t testing.TB, origin string, data ...[]byte) {
			for _, d := range data {
				of(origin).tick(t, string(d))
			}
		},
		OwnData:   true,
		Positions: true,
	})
}
