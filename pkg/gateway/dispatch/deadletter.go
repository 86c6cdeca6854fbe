package dispatch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
)

// DeadLetter returns a handler that hands what next did not take to dead, with the reason in extension attributes. dest is what next is,
// a URL or a topic. When dead fails too, or the delivery was only stopped, the caller still owns the event; the error is permanent only
// if neither next nor dead will ever take it, or dead has taken it without its data: see event.DataOmitted.
func DeadLetter(next event.Handler, dest string, dead event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if err == nil || errors.Is(err, ErrStopped) {
			return err
		}
		if ctx.Err() != nil { // however final err is, nobody has a letter of it
			return fmt.Errorf("%w: %w", ErrStopped, err)
		}
		return bury(ctx, dead, dest, e, err)
	})
}

// Refused is DeadLetter for what next will never take: its error is permanent. Other errors are the caller's to try again.
func Refused(next event.Handler, dest string, dead event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if !event.IsPermanent(err) {
			return err
		}
		return bury(ctx, dead, dest, e, err)
	})
}

// bury hands dead a letter of e. What is too large goes without its reasons, or else without data, and at last with nothing but what
// tells which event it was: all of that is better than a letter that goes round for ever and stops what is behind it. But the data that no
// letter has is nobody's yet, which the error says.
func bury(ctx context.Context, dead event.Handler, dest string, e *event.Event, err error) error {
	var failed, large error // large is why the whole event is no letter
	for i, letter := range []func() *event.Event{
		func() *event.Event { return Letter(e, dest, err) },
		func() *event.Event { return e },
		func() *event.Event { return withoutData(Letter(e, dest, err), e) },
		func() *event.Event { return withoutData(Letter(bare(e), dest, err), e) },
	} {
		if failed = dead.Handle(ctx, letter()); !errors.Is(failed, event.ErrTooLarge) {
			break
		}
		if i == 1 {
			large = failed
		}
	}
	if failed != nil {
		return fmt.Errorf("dead letter of %s: %w", event.Short(e.ID()), errors.Join(failed, err))
	}
	logging.FromContext(ctx).Warnw("event dead-lettered", "id", event.Short(e.ID()), "type", event.Short(e.Type()), "target", dest, "error", err)
	if large != nil {
		return event.Permanent(&event.DataOmitted{Bytes: len(e.DataEncoded), Err: large})
	}
	return nil
}

// withoutData replaces the data of a letter of e by its size.
func withoutData(letter, e *event.Event) *event.Event {
	letter.SetExtension(event.DataOmittedExtension, strconv.Itoa(len(e.DataEncoded)))
	letter.DataEncoded = nil
	return letter
}

// maxBare bounds each attribute of a bare event.
const maxBare = 256

// bare returns an event with the required attributes of e, or what fits of them.
func bare(e *event.Event) *event.Event {
	var b event.Binary
	for name, value := range map[string]string{"specversion": "1.0", "id": e.ID(), "source": e.Source(), "type": e.Type()} {
		value = strings.TrimSpace(value)
		_ = b.Set(name, strings.ToValidUTF8(value[:min(len(value), maxBare)], "")) // required attributes are always accepted
	}
	short, err := b.Event("", nil)
	if err != nil { // a source that was cut at a bad place
		_ = b.Set("source", "/")
		short, _ = b.Event("", nil)
	}
	return short
}

// Letter returns a copy of e that says why it could not be delivered to dest.
func Letter(e *event.Event, dest string, err error) *event.Event {
	letter := e.Clone()
	code, data := 500, []byte(err.Error()) // Knative's code when there was no answer
	var status *StatusError
	if errors.As(err, &status) {
		code, data = status.Code, status.Body
	}
	if len(data) > maxErrorBody {
		data = data[:maxErrorBody]
	}
	letter.SetExtension(event.ErrorDestExtension, dest)
	letter.SetExtension(event.ErrorCodeExtension, strconv.Itoa(code))
	letter.SetExtension(event.ErrorDataExtension, base64.StdEncoding.EncodeToString(data))
	return &letter
}
