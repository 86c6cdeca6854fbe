package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

// A dead letter sink that refuses for good, and is cured after an hour: nothing is lost, hardly anything is asked or said, and events that are
// taken pass by.
func TestADeadLetterThatIsRefusedForGoodIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		ctx := logging.WithLogger(t.Context(), zap.New(core).Sugar())
		var letters, taken atomic.Int32
		var cured atomic.Bool
		dead := event.HandlerFunc(func(context.Context, *event.Event) error {
			letters.Add(1)
			if cured.Load() {
				return nil
			}
			return event.Permanent(&StatusError{Code: http.StatusUnauthorized})
		})
		sink := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
			if e.Type() == "good" {
				return nil
			}
			return event.Permanent(errors.New("boom"))
		})
		d := plan.Delivery{Retry: 3, BackoffDelay: time.Second}
		h := Insist(DeadLetter(Retry(sink, d), "sink", Retry(dead, d), nil))
		handle := func(kind string) {
			e := newEvent(t, "text/plain", nil)
			e.SetType(kind)
			if err := h.Handle(ctx, e); err != nil {
				t.Errorf("Handle(%s) = %v, want nil", kind, err)
			}
			taken.Add(1)
		}
		for range 2 {
			go handle("bad")
		}
		for range 3600 {
			time.Sleep(time.Second)
			handle("good")
		}
		if got := letters.Load(); got < 2*60 || got > 2*80 {
			t.Errorf("two letters were tried %d times in an hour, want about once a minute each", got)
		}
		if got := logs.FilterMessage("event is not taken, trying again").Len(); got != 1 || logs.Len() != got {
			t.Errorf("it was said %d times, want once; all: %v", got, logs.All())
		}
		cured.Store(true)
		time.Sleep(maxBackoff + maxBackoff/10)
		synctest.Wait()
		if got := taken.Load(); got != 3602 {
			t.Errorf("%d events were taken, want 3602", got)
		}
		if got := logs.FilterMessage("events are taken again").Len(); got != 1 {
			t.Errorf("that they are taken again was said %d times, want once", got)
		}
	})
}

// The event is on its way out of the bus, and there is no other place for its data: who reads the log knows, and nothing is held up.
func TestDataThatNoDeadLetterCanHaveIsSaidToBeLost(t *testing.T) {
	core, logs := observer.New(zapcore.ErrorLevel)
	ctx := logging.WithLogger(t.Context(), zap.New(core).Sugar())
	small := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		if len(e.Data()) > 0 {
			return event.Permanent(fmt.Errorf("%w: the limit is 4", event.ErrTooLarge))
		}
		return nil
	})
	h := Insist(DeadLetter(failing(event.Permanent(errors.New("boom"))), "sink", small, nil))
	if err := h.Handle(ctx, newEvent(t, "text/plain", []byte("hello"))); err != nil {
		t.Fatalf("Handle() = %v, want nil", err)
	}
	const why = "its dead letter is without its 5 bytes of data: event is too large: the limit is 4: raise that limit or send less"
	if all := logs.All(); len(all) != 1 || all[0].ContextMap()["error"] != why || all[0].ContextMap()["bytes"] != int64(5) {
		t.Errorf("the log has %v, want once %s", all, why)
	}
}

// A message that is not an event, as it is or in JSON, may be larger than the place of its letter takes: it must not stay for ever.
func TestAMessageThatIsTooLargeForItsLetter(t *testing.T) {
	large := event.Permanent(fmt.Errorf("%w: the limit is 4", event.ErrTooLarge))
	var got []string
	place := func(takes bool) event.Handler {
		return event.HandlerFunc(func(_ context.Context, e *event.Event) error {
			if !takes && len(e.Data()) > 0 {
				return large
			}
			got = append(got, fmt.Sprint(string(e.Data()), e.Extensions()[event.DataOmittedExtension]))
			return nil
		})
	}
	for _, tt := range []struct {
		name        string
		dead, spare event.Handler
		want        string
		lost        bool
	}{
		{"it fits", place(true), place(true), "[hello<nil>]", false},
		{"it fits elsewhere", place(false), place(true), "[hello<nil> 5]", false},
		{"it fits nowhere", place(false), nil, "[5]", true},
	} {
		got = nil
		err := Letters(tt.dead, tt.spare).Handle(t.Context(), newEvent(t, "text/plain", []byte("hello")))
		if lost := errors.As(err, new(*event.DataOmitted)); lost != tt.lost || (err != nil) != tt.lost || fmt.Sprint(got) != tt.want {
			t.Errorf("%s: Handle() = %v, letters %v; want lost %v and %v", tt.name, err, got, tt.lost, tt.want)
		}
	}
}

// Where the whole event is safe, what its dead letter sink does not take is not a reason to put it there again; but whoever watches that sink is told
// of it, however long that is away.
func TestTheSparePlaceOfALetterGetsItOnce(t *testing.T) {
	large := event.Permanent(fmt.Errorf("%w: 413", event.ErrTooLarge))
	for _, tt := range []struct {
		name          string
		small         error // what the sink says to a letter without data, for an hour
		told, refused int
	}{
		{"the sink refuses any letter of it", event.Permanent(errors.New("400: a body is wanted")), 0, 1},
		{"nor is the barest small enough", large, 0, 1},
		{"the sink goes away", &StatusError{Code: http.StatusServiceUnavailable}, 1, 0},
	} {
		for _, kind := range []string{"DeadLetter", "Letters"} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					core, logs := observer.New(zapcore.InfoLevel)
					ctx := logging.WithLogger(t.Context(), zap.New(core).Sugar())
					begin := time.Now()
					stored, told := 0, 0
					dead := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
						switch {
						case len(e.Data()) > 0:
							return large
						case time.Since(begin) < time.Hour:
							return tt.small
						}
						told++
						return nil
					})
					spare := event.HandlerFunc(func(context.Context, *event.Event) error { stored++; return nil })
					d := plan.Delivery{Retry: 3, BackoffDelay: time.Second}
					h := Letters(Retry(dead, d), spare)
					if kind == "DeadLetter" {
						h = DeadLetter(failing(event.Permanent(errors.New("boom"))), "sink", Retry(dead, d), spare)
					}
					if err := Insist(h).Handle(ctx, newEvent(t, "text/plain", []byte("hello"))); err != nil {
						t.Errorf("Handle() = %v, want nil", err)
					}
					refused := logs.FilterMessage("event is too large for the place of its dead letter, which refuses one without data too: it is on the dead letter topic only").Len()
					if stored != 1 || told != tt.told || refused != tt.refused {
						t.Errorf("the whole was stored %d times, the sink told %d times, a refusal said %d times; want 1, %d, %d; all: %v",
							stored, told, refused, tt.told, tt.refused, logs.All())
					}
				})
			})
		}
	}
}

func TestABusThatIsBackIsNotKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		h := Insist(event.HandlerFunc(func(context.Context, *event.Event) error {
			if time.Since(begin) < time.Hour {
				return &event.Unavailable{What: "bus", After: time.Second}
			}
			return nil
		}))
		if err := h.Handle(t.Context(), newEvent(t, "text/plain", nil)); err != nil || time.Since(begin) > time.Hour+2*awayPause {
			t.Errorf("Handle() = %v after %v, want nil soon after an hour", err, time.Since(begin))
		}
	})
}

func TestInsistStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Hour)
			cancel()
		}()
		boom := errors.New("boom")
		begin := time.Now()
		err := Insist(failing(boom)).Handle(ctx, newEvent(t, "text/plain", nil))
		if !errors.Is(err, ErrStopped) || !errors.Is(err, boom) || time.Since(begin) != time.Hour {
			t.Errorf("Handle() = %v after %v, want ErrStopped and boom after an hour", err, time.Since(begin))
		}
	})
}

func TestWhatHasNoEndDoesNotHammer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		attempts := 0
		_ = Forever(event.HandlerFunc(func(context.Context, *event.Event) error {
			attempts++
			return errors.New("boom")
		}), plan.Delivery{}).Handle(ctx, newEvent(t, "text/plain", nil))
		if attempts > 100 {
			t.Errorf("%d attempts in an hour without a backoff, want about one a minute", attempts)
		}
	})
}
