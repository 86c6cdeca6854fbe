package runtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/openfunction/events/pkg/event"
)

// Sink is a handler that keeps what it takes. Its zero value takes everything.
type Sink struct {
	// Refuse, when set, is asked for the data of every event first. It may block.
	Refuse func(data string) error

	mu     sync.Mutex
	events []*event.Event
	count  map[string]int
}

// Handle takes an event unless Refuse returns an error.
func (s *Sink) Handle(_ context.Context, e *event.Event) error {
	data := string(e.Data())
	if s.Refuse != nil {
		if err := s.Refuse(data); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == nil {
		s.count = map[string]int{}
	}
	s.count[data]++
	s.events = append(s.events, e)
	return nil
}

// Events returns what was taken, in that order.
func (s *Sink) Events() []*event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Data returns the data of what was taken, in that order.
func (s *Sink) Data() []string {
	var all []string
	for _, e := range s.Events() {
		all = append(all, string(e.Data()))
	}
	return all
}

// Count is how often an event with this data was taken.
func (s *Sink) Count(data string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[data]
}

// Distinct is how many events with different data were taken.
func (s *Sink) Distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.count)
}

// Await waits until an event with each of these data was taken.
func (s *Sink) Await(t testing.TB, data ...string) {
	t.Helper()
	for _, d := range data {
		Eventually(t, fmt.Sprintf("event %q", d), func() bool { return s.Count(d) > 0 })
	}
}

// Distinct counts what is in any of the lists.
func Distinct(lists ...[]string) int {
	all := map[string]bool{}
	for _, data := range slices.Concat(lists...) {
		all[data] = true
	}
	return len(all)
}
