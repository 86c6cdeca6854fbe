package gateway

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/dispatch"
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
	event string // what a person calls it
	// posted tells that whoever has sent an event is told what becomes of it, and still has it.
	posted bool

	full    atomic.Pointer[mishap] // the bus did not take one
	refused atomic.Pointer[mishap] // no dead letter has all of one
}

// mishap is told by its first error: a status that holds it is not to change with each event.
type mishap struct {
	why  string
	last atomic.Int64 // in Unix nanoseconds
	over atomic.Bool  // an event was taken since
}

// handler returns a handler that remembers what next does.
func (i *intake) handler(next event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		switch {
		case err == nil:
			if m := i.full.Load(); m != nil {
				m.over.Store(true)
			}
		case event.IsPermanent(err):
			if !i.posted {
				remember(&i.refused, err)
			}
		case isFull(err):
			remember(&i.full, err)
		}
		return err
	})
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
	if why := i.full.Load().told(); why != "" {
		all = append(all, i.event+": events are not taken: "+why)
	}
	if why := i.refused.Load().told(); why != "" {
		all = append(all, i.event+": an event was refused for good, and no dead letter has all of it: "+why)
	}
	return strings.Join(all, "; ")
}

// busOf is an intake as its bus tells it.
type busOf struct{ *intake }

func (b busOf) failing() string { return b.full.Load().told() }
