package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/dispatch"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// remembered is how long it is told of a source that an event was not taken, unless that is over before: of one that was refused for good it
	// never is, and whoever posts events may not come back.
	remembered = 10 * time.Minute
	// eased is how long it is told when one was taken since: a bus at its limit takes and refuses in turn.
	eased = time.Minute
)

// intake remembers what becomes of the events of one event of an EventSource where they go first: on the bus, or without one to the sink. Its
// methods may be called from many goroutines at once.
type intake struct {
	refusals
	bus   *openBus
	topic string
}

func newIntake(spec plan.Source, b *openBus) *intake {
	return &intake{refusals{of: spec.Kind + " event " + spec.Event}, b, spec.Topic}
}

// refusals remembers that events were refused for good, and no dead letter has all of one. Its methods may be called from many goroutines at once.
type refusals struct {
	of   string // what a person calls the event, or its target
	last atomic.Pointer[mishap]
}

// fullness remembers which topics of a bus did not take an event, whoever published it, since there was no room. Its methods may be called from
// many goroutines at once.
type fullness struct {
	mu     sync.Mutex
	topics map[string]*atomic.Pointer[mishap] // by name; a pointer is nil until the topic was full
}

// mishap is told by its first error: a status that holds it is not to change with each event.
type mishap struct {
	why  string
	last atomic.Int64 // in Unix nanoseconds
	over atomic.Bool  // an event was taken since
}

// handler returns a handler that remembers which errors of next are refusals. It is for events that nobody else has any more: who posts one is told.
func (r *refusals) handler(next event.Handler, refused func(error) bool) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if err != nil && refused(err) {
			remember(&r.last, err)
		}
		return err
	})
}

// isOmitted tells whether err is that nobody else has the data: what is only refused, also by the place of dead letters, stays on the bus.
func isOmitted(err error) bool { return errors.As(err, new(*event.DataOmitted)) }

func (r *refusals) failing() string {
	why := r.last.Load().told()
	if why == "" {
		return ""
	}
	return r.of + ": an event was refused for good, and no dead letter has all of it: " + why
}

// handler returns a handler that remembers what next does, which publishes on topic.
func (f *fullness) handler(topic string, next event.Handler) event.Handler {
	last := f.topic(topic)
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		switch {
		case err == nil:
			if m := last.Load(); m != nil {
				m.over.Store(true)
			}
		case isFull(err):
			remember(last, err)
		}
		return err
	})
}

func (f *fullness) topic(name string) *atomic.Pointer[mishap] {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.topics[name]
	if last == nil {
		if f.topics == nil {
			f.topics = map[string]*atomic.Pointer[mishap]{}
		}
		last = &atomic.Pointer[mishap]{}
		f.topics[name] = last
	}
	return last
}

// of is why a topic is full, for as long as it is told.
func (f *fullness) of(topic string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.topics[topic]; last != nil {
		return last.Load().told()
	}
	return ""
}

// failing is why topics are full, for as long as it is told.
func (f *fullness) failing() (all []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, last := range f.topics {
		if why := last.Load().told(); why != "" {
			all = append(all, why)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func isFull(err error) bool {
	var away *event.Unavailable
	return errors.As(err, &away) && away.Full
}

func remember(at *atomic.Pointer[mishap], err error) {
	m := at.Load()
	if m.told() == "" {
		m = &mishap{why: dispatch.Brief(err)}
		defer at.Store(m)
	}
	m.last.Store(time.Now().UnixNano())
	m.over.Store(false)
}

// told is why, for as long as it is told.
func (m *mishap) told() string {
	if m == nil {
		return ""
	}
	long := remembered
	if m.over.Load() {
		long = eased
	}
	if time.Since(time.Unix(0, m.last.Load())) > long {
		return ""
	}
	return m.why
}

func (i *intake) failing() string {
	var all []string
	if why := i.bus.full.of(i.topic); why != "" {
		all = append(all, i.of+": events are not taken: "+why)
	}
	if why := i.refusals.failing(); why != "" {
		all = append(all, why)
	}
	return strings.Join(all, "; ")
}
