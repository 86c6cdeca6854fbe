// Package event is the value that travels, a CloudEvent, and Handler, the one shape every stage of the data plane has.
package event

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// Event is a CloudEvent, version 1.0 or 0.3, with its data as the bytes that were received.
// Once it has been handed to a Handler nobody may change it: many goroutines may read it at once. Clone it to change it.
type Event = cloudevents.Event

// PartitionKey returns the text of the extension attribute partitionkey, of whatever type it is: events with equal ones may be kept in order.
// It is empty without one. See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/partitioning.md.
func PartitionKey(e *Event) string {
	value, ok := e.Extensions()["partitionkey"]
	if !ok {
		return ""
	}
	if s, ok := value.(string); ok {
		return s
	}
	s, _ := types.Format(value)
	return s
}

// MediaTypeStructured and MediaTypeBatch are the content types of the CloudEvents JSON format.
const (
	MediaTypeStructured = cloudevents.ApplicationCloudEventsJSON
	MediaTypeBatch      = cloudevents.ApplicationCloudEventsBatchJSON
)

// maxShort bounds what Short returns.
const maxShort = 256

// Short returns an attribute as logs and errors tell it: one that is very long, only its beginning. What an event is called is its producer's
// choice, and may be as large as the event.
func Short(value string) string {
	if len(value) <= maxShort {
		return value
	}
	return strings.ToValidUTF8(value[:maxShort], "") + "…"
}

// Handler is one stage of the data plane: a bus topic, a sink, a retry around a sink.
type Handler interface {
	// Handle returns nil once it has taken responsibility for e: it is safe elsewhere and the caller may forget it.
	// It blocks until then and may be called from many goroutines at once. An error means that the caller still owns e.
	Handle(ctx context.Context, e *Event) error
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, e *Event) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, e *Event) error { return f(ctx, e) }

type said struct{ error }

func (s said) Unwrap() error { return s.error }

// Said marks err as one whose cause is in the log already, told by whoever knows it best. Said(nil) is nil.
func Said(err error) error {
	if err == nil {
		return nil
	}
	return said{err}
}

// IsSaid tells whether err is marked by Said.
func IsSaid(err error) bool { return errors.As(err, new(said)) }

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err as one that trying again cannot cure. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent tells whether err, or an error it wraps, was marked with Permanent. An error that wraps several is permanent if all of them
// are: trying again may cure the others, and what is acknowledged until then would be lost.
func IsPermanent(err error) bool {
	switch wrapper := err.(type) {
	case permanent:
		return true
	case interface{ Unwrap() error }:
		return IsPermanent(wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		all := wrapper.Unwrap()
		return len(all) > 0 && !slices.ContainsFunc(all, func(err error) bool { return !IsPermanent(err) })
	}
	return false
}

// ErrTooLarge is wrapped, besides Permanent, by the error of a stage that an event is too large for.
var ErrTooLarge = errors.New("event is too large")

// DataOmitted is, marked as Permanent, the error of a stage for which the whole event is too large: there is a dead letter that says which
// event it was, but the data is still the caller's.
type DataOmitted struct {
	// Bytes is how much data it is. None means that the attributes are too large.
	Bytes int
	// Err says whom it was too large for, and what the limit is.
	Err error
}

// Error says what is missing, why, and what to do.
func (o *DataOmitted) Error() string {
	what := fmt.Sprintf("its %d bytes of data", o.Bytes)
	if o.Bytes == 0 {
		what = "most of its attributes"
	}
	return fmt.Sprintf("its dead letter is without %s: %v: raise that limit or send less", what, o.Err)
}

// Unwrap returns the cause.
func (o *DataOmitted) Unwrap() error { return o.Err }

// Unavailable is the error of a stage that cannot take events at the moment but expects to later: its broker is away or slow.
type Unavailable struct {
	// What is away, for example "EventBus default/default".
	What string
	// After is how long to wait before trying again; zero means no opinion.
	After time.Duration
	// Full is true when the stage has no room left, which waiting alone may not cure.
	Full bool
	Err  error
}

// Error says what is away and why, and of what is full what to do.
func (u *Unavailable) Error() string {
	text := u.What + " is unavailable"
	if u.Full {
		text = u.What + " is full"
	}
	if u.Err != nil {
		text += ": " + u.Err.Error()
	}
	if u.Full {
		text += ": make room or raise its limit"
	}
	return text
}

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.Err }
