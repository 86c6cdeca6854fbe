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
// a URL or a topic. When the whole event is too large for dead, it goes to spare, unless that is nil, and dead gets a letter without data.
// When dead or spare fails too, or the delivery was only stopped, the caller still owns the event; the error is permanent only
// if none of them will ever take it, or dead has taken it without its data and nobody else has that: see event.DataOmitted.
// Once spare has it, only the letter without data is tried again, until dead takes it or refuses it for good.
func DeadLetter(next event.Handler, dest string, dead, spare event.Handler) event.Handler {
	g := newGrave(dest, dead, spare)
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if err == nil || errors.Is(err, ErrStopped) {
			return err
		}
		if ctx.Err() != nil { // however final err is, nobody has a letter of it
			return fmt.Errorf("%w: %w", ErrStopped, err)
		}
		return g.bury(ctx, e, err)
	})
}

// Refused is DeadLetter for what next will never take: its error is permanent. Other errors are the caller's to try again.
func Refused(next event.Handler, dest string, dead event.Handler) event.Handler {
	g := newGrave(dest, dead, nil)
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if !event.IsPermanent(err) {
			return err
		}
		return g.bury(ctx, e, err)
	})
}

// grave is where the letters of what dest did not take go.
type grave struct {
	dest        string
	dead, spare event.Handler
	patient     event.Handler // dead, until it takes a letter or refuses it for good
}

func newGrave(dest string, dead, spare event.Handler) grave {
	tell := dead
	if c, ok := dead.(counted); ok { // what is told of has been counted
		tell = c.plain
	}
	return grave{dest, dead, spare, insistUntilRefused(tell)}
}

// Count returns dead, and spare unless that is nil, for DeadLetter and Letters, such that taken is called once for each event that has become a letter,
// whether dead has that, or spare, or, of what is too large for dead, both.
func Count(dead, spare event.Handler, taken func()) (event.Handler, event.Handler) {
	count := func(*event.Event) { taken() }
	if spare != nil {
		spare = Then(spare, count)
	}
	return counted{Handler: Then(dead, count), plain: dead}, spare
}

// counted counts letters; plain does not.
type counted struct {
	event.Handler
	plain event.Handler
}

// bury hands dead a letter of e. What is too large goes without its reasons, or else, whole, to spare; then without data, and at last with nothing
// but what tells which event it was: all of that is better than a letter that goes round for ever and stops what is behind it. But the data that no
// letter has is nobody's yet, which the error says.
func (g grave) bury(ctx context.Context, e *event.Event, err error) error {
	lost, failed := g.hand(ctx, []letter{
		func() *event.Event { return Letter(e, g.dest, err) },
		func() *event.Event { return e },
	}, []letter{
		func() *event.Event { return withoutData(Letter(e, g.dest, err), e) },
		func() *event.Event { return withoutData(Letter(bare(e), g.dest, err), e) },
	})
	if failed != nil {
		return fmt.Errorf("dead letter of %s: %w", event.Short(e.ID()), errors.Join(failed, err))
	}
	logging.FromContext(ctx).Warnw("event dead-lettered", "id", event.Short(e.ID()), "type", event.Short(e.Type()), "target", g.dest, "error", err)
	return omitted(e, lost)
}

// Letters returns a handler of letters that somebody else has made, of what is no event: see DeadLetter for where each goes.
func Letters(dead, spare event.Handler) event.Handler {
	g := newGrave("", dead, spare)
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		lost, failed := g.hand(ctx, []letter{func() *event.Event { return e }}, []letter{func() *event.Event {
			small := e.Clone()
			return withoutData(&small, e)
		}})
		if failed != nil {
			return failed
		}
		return omitted(e, lost)
	})
}

func omitted(e *event.Event, lost error) error {
	if lost == nil {
		return nil
	}
	return event.Permanent(&event.DataOmitted{Bytes: len(e.DataEncoded), Err: lost})
}

// letter makes one.
type letter func() *event.Event

// hand hands dead one of whole, or else that to spare and one of cut to dead. Lost is why nobody has a whole one.
func (g grave) hand(ctx context.Context, whole, cut []letter) (lost, failed error) {
	if failed = first(ctx, g.dead, whole); !errors.Is(failed, event.ErrTooLarge) {
		return nil, failed
	}
	lost = failed
	if g.spare != nil {
		if lost = first(ctx, g.spare, whole); lost == nil {
			return nil, g.tell(ctx, cut)
		}
		if !event.IsPermanent(lost) {
			return lost, lost
		}
	}
	return lost, first(ctx, g.dead, cut)
}

// tell hands dead one of cut, of what spare has whole: to begin anew for its sake would give spare another copy each time.
func (g grave) tell(ctx context.Context, cut []letter) error {
	err := first(ctx, g.patient, cut)
	if !event.IsPermanent(err) {
		return err
	}
	logging.FromContext(ctx).Warnw("event is too large for the place of its dead letter, which refuses one without data too: it is on the dead letter topic only",
		"id", event.Short(cut[0]().ID()), "error", err)
	return nil
}

// first hands h the first of letters that is not too large for it.
func first(ctx context.Context, h event.Handler, letters []letter) (err error) {
	for _, made := range letters {
		if err = h.Handle(ctx, made()); !errors.Is(err, event.ErrTooLarge) {
			return err
		}
	}
	return err
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
