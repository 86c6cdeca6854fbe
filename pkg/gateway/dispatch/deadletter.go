package dispatch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
)

// The extension attributes of a dead letter, as Knative names them.
const (
	ErrorDest = "knativeerrordest"
	ErrorCode = "knativeerrorcode"
	ErrorData = "knativeerrordata"

	// DataOmitted is ours: how many bytes of data an event had that was too large for the place of its dead letter.
	DataOmitted = "openfunctiondataomitted"
)

// DeadLetter returns a handler that hands what next did not take to dead, with the reason in extension attributes. dest is what next is,
// a URL or a topic. When dead fails too, or the delivery was only stopped, the caller still owns the event.
func DeadLetter(next event.Handler, dest string, dead event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if err == nil || errors.Is(err, ErrStopped) || ctx.Err() != nil {
			return err
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

func bury(ctx context.Context, dead event.Handler, dest string, e *event.Event, err error) error {
	failed := dead.Handle(ctx, Letter(e, dest, err))
	if errors.Is(failed, event.ErrTooLarge) {
		// The reasons made it too large, or it always was. A letter without them, or at last without data, is better than one that goes
		// round for ever and stops what is behind it.
		if failed = dead.Handle(ctx, e); errors.Is(failed, event.ErrTooLarge) {
			failed = dead.Handle(ctx, withoutData(Letter(e, dest, err)))
		}
	}
	if failed != nil {
		return fmt.Errorf("dead letter of %s: %w", e.ID(), errors.Join(failed, err))
	}
	logging.FromContext(ctx).Warnw("event dead-lettered", "id", e.ID(), "type", e.Type(), "target", dest, "error", err)
	return nil
}

// withoutData replaces a letter's data by its size.
func withoutData(letter *event.Event) *event.Event {
	letter.SetExtension(DataOmitted, strconv.Itoa(len(letter.DataEncoded)))
	letter.DataEncoded = nil
	return letter
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
	letter.SetExtension(ErrorDest, dest)
	letter.SetExtension(ErrorCode, strconv.Itoa(code))
	letter.SetExtension(ErrorData, base64.StdEncoding.EncodeToString(data))
	return &letter
}
