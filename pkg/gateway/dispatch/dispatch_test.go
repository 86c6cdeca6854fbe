package dispatch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

func newEvent(t testing.TB, contentType string, data []byte) *event.Event {
	t.Helper()
	var b event.Binary
	for name, value := range map[string]string{"specversion": "1.0", "id": "e1", "source": "/test", "type": "test", "subject": "größe 1%", "myext": "x"} {
		if err := b.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event(contentType, data)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func sinkTo(t testing.TB, h http.HandlerFunc) *Sink {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c := NewClient(nil)
	t.Cleanup(c.Close)
	s, err := c.Sink(plan.Target{Name: "sink default/fn", URL: server.URL + "/path"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSinkPostsBinaryMode(t *testing.T) {
	data := make([]byte, 256)
	for i := range data {
		data[i] = byte(i)
	}
	var header http.Header
	var body []byte
	s := sinkTo(t, func(w http.ResponseWriter, r *http.Request) {
		header, body = r.Header, nil
		body, _ = io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/path" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	if err := s.Handle(t.Context(), newEvent(t, "application/octet-stream", data)); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"Ce-Id", "Ce-Source", "Ce-Type", "Ce-Specversion", "Ce-Subject", "Ce-Myext", "Content-Type"} {
		got[name] = header.Get(name)
	}
	want := map[string]string{
		"Ce-Id": "e1", "Ce-Source": "/test", "Ce-Type": "test", "Ce-Specversion": "1.0",
		"Ce-Subject": "gr%C3%B6%C3%9Fe%201%25", "Ce-Myext": "x", "Content-Type": "application/octet-stream",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(data, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func TestSinkJudgesAnswers(t *testing.T) {
	for _, tt := range []struct {
		code                 int
		wantErr, wantForever bool
	}{
		{200, false, false}, {202, false, false}, {204, false, false},
		{301, true, true}, {302, true, true}, {400, true, true}, {401, true, true}, {403, true, true}, {410, true, true}, {413, true, true},
		{422, true, true}, {425, true, true}, {431, true, true},
		{404, true, false}, {408, true, false}, {409, true, false}, {429, true, false}, {500, true, false}, {503, true, false}, {599, true, false},
	} {
		t.Run(fmt.Sprint(tt.code), func(t *testing.T) {
			s := sinkTo(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/path" {
					t.Errorf("redirect was followed to %s", r.URL)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.code)
			})
			err := s.Handle(t.Context(), newEvent(t, "", nil))
			if got := err != nil; got != tt.wantErr {
				t.Errorf("Handle() = %v, want error: %v", err, tt.wantErr)
			}
			if got := event.IsPermanent(err); got != tt.wantForever {
				t.Errorf("IsPermanent(%v) = %v, want %v", err, got, tt.wantForever)
			}
			if got, want := errors.Is(err, event.ErrTooLarge), tt.code == 413 || tt.code == 431; got != want {
				t.Errorf("%v is said to be too large: %v, want %v", err, got, want)
			}
		})
	}
}

// A letter that the sink of letters has no room for must not be posted for ever: a smaller one is, and it stops there.
func TestALetterThatItsSinkHasNoRoomForGoesSmaller(t *testing.T) {
	var sizes []int
	dead := sinkTo(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sizes = append(sizes, len(body))
		if len(body) > 0 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	box := ForeverLetters(dead, plan.Delivery{})
	refused := failing(event.Permanent(errors.New("no")))
	err := DeadLetter(refused, "sink", box, nil).Handle(t.Context(), newEvent(t, "text/plain", []byte("hello")))
	if omitted := (*event.DataOmitted)(nil); !errors.As(err, &omitted) || !event.IsPermanent(err) {
		t.Errorf("Handle() = %v, want that the data is omitted for good", err)
	}
	if diff := cmp.Diff([]int{5, 5, 0}, sizes); diff != "" {
		t.Errorf("sizes of the letters (-want +got):\n%s", diff)
	}
}

func TestSinkIsDoneAt2xxWhateverTheBodySays(t *testing.T) {
	for name, write := range map[string]func(w http.ResponseWriter, r *http.Request){
		"not a CloudEvent": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") },
		"endless":          func(w http.ResponseWriter, r *http.Request) { trickle(w, r, strings.Repeat("x", 4096)) },
		"trickling":        func(w http.ResponseWriter, r *http.Request) { trickle(w, r, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			s := sinkTo(t, write)
			begin := time.Now()
			if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("a 2xx answer took %v to be believed", took)
			}
		})
	}
}

func trickle(w http.ResponseWriter, r *http.Request, s string) {
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, s); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestRetry(t *testing.T) {
	boom := errors.New("boom")
	away := &StatusError{Code: 429, RetryAfter: 5 * time.Second}
	for _, tt := range []struct {
		name     string
		delivery plan.Delivery
		errs     []error
		want     []time.Duration // the waits, give or take a tenth
		wantErr  string
	}{
		{"first attempt succeeds", plan.Delivery{Retry: 3}, nil, nil, ""},
		{"exponential doubles", plan.Delivery{Retry: 3, BackoffDelay: 200 * time.Millisecond}, []error{boom, boom, boom},
			[]time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}, ""},
		{"linear grows by the delay", plan.Delivery{Retry: 3, Linear: true, BackoffDelay: 200 * time.Millisecond}, []error{boom, boom, boom},
			[]time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 600 * time.Millisecond}, ""},
		{"attempts run out", plan.Delivery{Retry: 1, BackoffDelay: time.Second}, []error{boom, boom}, []time.Duration{time.Second}, "after 2 attempts: boom"},
		{"no retries", plan.Delivery{}, []error{boom}, nil, "after 1 attempt: boom"},
		{"a permanent error is not retried", plan.Delivery{Retry: 3}, []error{event.Permanent(boom)}, nil, "boom"},
		{"no wait exceeds a minute", plan.Delivery{Retry: 1, BackoffDelay: time.Hour}, []error{boom}, []time.Duration{time.Minute}, ""},
		{"Retry-After is honoured", plan.Delivery{Retry: 1, RetryAfterMax: time.Minute}, []error{away}, []time.Duration{5 * time.Second}, ""},
		{"Retry-After is capped", plan.Delivery{Retry: 1, RetryAfterMax: time.Second}, []error{away}, []time.Duration{time.Second}, ""},
		{"a huge delay does not overflow", plan.Delivery{Retry: 1, BackoffDelay: 1 << 62}, []error{boom}, []time.Duration{time.Minute}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var waits []time.Duration
			attempt := 0
			r := Retry(event.HandlerFunc(func(context.Context, *event.Event) error {
				attempt++
				if attempt > len(tt.errs) {
					return nil
				}
				return tt.errs[attempt-1]
			}), tt.delivery).(*retry)
			r.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
			err := r.Handle(t.Context(), newEvent(t, "", nil))
			if got := fmt.Sprint(err); got != tt.wantErr && (err != nil || tt.wantErr != "") {
				t.Errorf("Handle() = %v, want %q", err, tt.wantErr)
			}
			near := cmp.Comparer(func(a, b time.Duration) bool { return a-b <= max(a, b)/9 && b-a <= max(a, b)/9 })
			if diff := cmp.Diff(tt.want, waits, near); diff != "" {
				t.Errorf("waits (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRetryStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	attempts := 0
	err := Forever(event.HandlerFunc(func(attempt context.Context, _ *event.Event) error {
		attempts++
		cancel()
		if attempt.Err() != nil {
			t.Error("the attempt under way was cancelled at once")
		}
		return errors.New("boom")
	}), plan.Delivery{}).Handle(ctx, newEvent(t, "", nil))
	if !errors.Is(err, ErrStopped) || attempts != 1 {
		t.Errorf("Handle() = %v after %d attempts, want ErrStopped after 1", err, attempts)
	}
}

func TestRetryBoundsAnAttempt(t *testing.T) {
	s := sinkTo(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	err := Retry(s, plan.Delivery{Timeout: 50 * time.Millisecond}).Handle(t.Context(), newEvent(t, "", nil))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Handle() = %v, want a deadline exceeded", err)
	}
	if want := "no answer within 50ms (delivery.timeout)"; !strings.HasSuffix(err.Error(), ": "+want) {
		t.Errorf("Handle() = %v, want %s", err, want)
	}
}

// The path and the query of where a redirect leads may hold a token.
func TestRedirectIsExplained(t *testing.T) {
	for location, want := range map[string]string{"https://user:planted@other.example:8443/planted?token=planted": "other.example:8443", "/planted": "127.0.0.1:"} {
		s := sinkTo(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		})
		e := newEvent(t, "", nil)
		err := s.Handle(t.Context(), e)
		data, _ := base64.StdEncoding.DecodeString(Letter(e, s.name, err).Extensions()[event.ErrorDataExtension].(string))
		if got := string(data); !strings.HasPrefix(got, "redirects are not followed, this one leads to "+want) || strings.Contains(got+err.Error(), "planted") {
			t.Errorf("Handle() = %v, and the dead letter says %q, want the host %s", err, got, want)
		}
	}
}

func TestDeadLetter(t *testing.T) {
	for _, tt := range []struct {
		name     string
		err      error
		wantCode string
		wantData string
	}{
		{"of a status", event.Permanent(&StatusError{URL: "http://s", Code: 400, Body: []byte("no such order")}), "400", "no such order"},
		{"of an empty body", &StatusError{URL: "http://s", Code: 503}, "503", ""},
		{"of no answer", errors.New("connection refused"), "500", "connection refused"},
		{"of a long body", &StatusError{Code: 500, Body: []byte(strings.Repeat("x", 5000))}, "500", strings.Repeat("x", maxErrorBody)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEvent(t, "text/plain", []byte("hello"))
			var letter *event.Event
			err := DeadLetter(failing(tt.err), "http://s/path", event.HandlerFunc(func(_ context.Context, e *event.Event) error {
				letter = e
				return nil
			}), nil).Handle(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			data, _ := base64.StdEncoding.DecodeString(letter.Extensions()[event.ErrorDataExtension].(string))
			got := []any{letter.ID(), string(letter.Data()), letter.Extensions()[event.ErrorDestExtension], letter.Extensions()[event.ErrorCodeExtension], string(data), letter.Extensions()["myext"]}
			want := []any{"e1", "hello", "http://s/path", tt.wantCode, tt.wantData, "x"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("letter (-want +got):\n%s", diff)
			}
			if _, changed := e.Extensions()[event.ErrorDestExtension]; changed {
				t.Error("the original event was changed")
			}
		})
	}
}

func TestADeadLetterThatIsTooLargeGoesWithoutWhatMakesItSo(t *testing.T) {
	large := event.Permanent(fmt.Errorf("publish: %w", event.ErrTooLarge))
	for _, tt := range []struct {
		name     string
		fits     func(e *event.Event) bool
		wantData string
		omitted  any
	}{
		{"the letter fits", func(*event.Event) bool { return true }, "hello", nil},
		{"the event alone fits", func(e *event.Event) bool { return e.Extensions()[event.ErrorDestExtension] == nil }, "hello", nil},
		{"only its attributes fit", func(e *event.Event) bool { return len(e.Data()) == 0 }, "", "5"},
		{"not even those", func(e *event.Event) bool { return len(e.Data()) == 0 && e.Extensions()["myext"] == nil }, "", "5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got *event.Event
			dead := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
				if !tt.fits(e) {
					return large
				}
				got = e
				return nil
			})
			err := Refused(failing(large), "topic x", dead).Handle(t.Context(), newEvent(t, "text/plain", []byte("hello")))
			var omitted *event.DataOmitted
			if whole := tt.omitted == nil; whole && err != nil || !whole && (!errors.As(err, &omitted) || omitted.Bytes != 5 || !event.IsPermanent(err)) {
				t.Fatalf("Handle() = %v, want nil only of a letter with the data, and else to have it back for good", err)
			}
			if string(got.Data()) != tt.wantData || got.Extensions()[event.DataOmittedExtension] != tt.omitted {
				t.Errorf("letter has data %q and %v, want %q and %v omitted", got.Data(), got.Extensions(), tt.wantData, tt.omitted)
			}
			if got.ID() != "e1" || got.Source() != "/test" || got.Type() != "test" {
				t.Errorf("letter is of %s of %s, type %s; want the event's", got.ID(), got.Source(), got.Type())
			}
		})
	}
}

func TestADeadLetterThatIsTooLargeForItsPlaceGoesWholeToTheSpareOne(t *testing.T) {
	large, away := event.Permanent(fmt.Errorf("%w: the limit is 4", event.ErrTooLarge)), &event.Unavailable{What: "bus"}
	for _, tt := range []struct {
		name        string
		dead, spare func(e *event.Event) error
		want        []string // what is where
		lost, again bool
	}{
		{"it fits", func(*event.Event) error { return nil }, func(*event.Event) error { return nil }, []string{"dead hello, with a reason"}, false, false},
		{"it does not", whole(large), func(*event.Event) error { return nil }, []string{"spare hello, with a reason", "dead without 5 bytes"}, false, false},
		{"the event alone fits there", whole(large), func(e *event.Event) error {
			if e.Extensions()[event.ErrorDestExtension] != nil {
				return large
			}
			return nil
		}, []string{"spare hello", "dead without 5 bytes"}, false, false},
		{"it fits nowhere", whole(large), whole(large), []string{"dead without 5 bytes"}, true, false},
		{"one without data does not fit either", func(*event.Event) error { return large }, func(*event.Event) error { return nil }, []string{"spare hello, with a reason"}, false, false},
		{"the spare place refuses it for good for another reason", whole(large), whole(event.Permanent(errors.New("no such topic"))), []string{"dead without 5 bytes"}, true, false},
		{"the spare place is away, so it waits", whole(large), whole(away), nil, false, true},
		{"what another place is away for waits for that", whole(away), func(*event.Event) error { return nil }, nil, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			place := func(name string, takes func(*event.Event) error) event.Handler {
				return event.HandlerFunc(func(_ context.Context, e *event.Event) error {
					if err := takes(e); err != nil {
						return err
					}
					switch bytes := e.Extensions()[event.DataOmittedExtension]; {
					case bytes != nil:
						name += fmt.Sprintf(" without %s bytes", bytes)
					case e.Extensions()[event.ErrorDestExtension] != nil:
						name += " " + string(e.Data()) + ", with a reason"
					default:
						name += " " + string(e.Data())
					}
					got = append(got, name)
					return nil
				})
			}
			counted := 0
			dead, spare := Count(place("dead", tt.dead), place("spare", tt.spare), func() { counted++ })
			h := DeadLetter(failing(event.Permanent(errors.New("boom"))), "sink", dead, spare)
			err := h.Handle(t.Context(), newEvent(t, "text/plain", []byte("hello")))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("letters (-want +got):\n%s", diff)
			}
			if want := min(1, len(tt.want)); counted != want {
				t.Errorf("%d events are counted, want %d", counted, want)
			}
			lost := errors.As(err, new(*event.DataOmitted))
			if lost != tt.lost || (err != nil && !lost) != tt.again || event.IsPermanent(err) != tt.lost {
				t.Errorf("Handle() = %v, want lost %v, to be tried again %v", err, tt.lost, tt.again)
			}
		})
	}
}

// whole refuses what has data.
func whole(err error) func(*event.Event) error {
	return func(e *event.Event) error {
		if len(e.Data()) > 0 {
			return err
		}
		return nil
	}
}

func TestBrief(t *testing.T) {
	large := event.Permanent(fmt.Errorf("%w: its 9 bytes are more than 8", event.ErrTooLarge))
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"an answer without its body", fmt.Errorf("after 3 attempts: %w", &StatusError{URL: "http://s", Code: 500, Body: []byte("secret")}), "post http://s: status 500"},
		{"a sink's limit", event.Permanent(fmt.Errorf("%w: %w", event.ErrTooLarge, &StatusError{URL: "http://s", Code: 413, Body: []byte("secret")})), "post http://s: status 413"},
		{"a bus that is away", fmt.Errorf("publish e1 to t: %w", &event.Unavailable{What: "bus"}), "bus is unavailable"},
		{"a bus's limit", fmt.Errorf("publish e1 to t: %w", large), "event is too large: its 9 bytes are more than 8"},
		{"a letter without data", event.Permanent(&event.DataOmitted{Bytes: 9, Err: fmt.Errorf("publish e1 to t: %w", large)}), "event is too large: its 9 bytes are more than 8: raise that limit or send less"},
		{"anything else", errors.New("boom"), "boom"},
	} {
		if got := Brief(tt.err); got != tt.want {
			t.Errorf("%s: Brief(%v) = %q, want %q", tt.name, tt.err, got, tt.want)
		}
	}
}

// What is left of an event that fits nowhere is small, and still an event.
func TestTheBarestLetterIsBounded(t *testing.T) {
	long := strings.Repeat("%41", 8<<10)
	for name, set := range map[string]map[string]string{
		"a long id":                      {"id": long},
		"an id that is blank at first":   {"id": strings.Repeat(" ", 1000) + "x"},
		"a source with a cut escape":     {"source": "/" + long},
		"a type that is cut in a letter": {"type": "x" + strings.Repeat("é", 1000)},
		"a long subject":                 {"subject": long},
		"a long extension":               {"myext": long},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvent(t, "text/plain", []byte("hello"))
			var b event.Binary
			event.EachAttribute(e, func(name, value string) { _ = b.Set(name, value) })
			for name, value := range set {
				if err := b.Set(name, value); err != nil {
					t.Fatal(err)
				}
			}
			e, err := b.Event("text/plain", []byte("hello"))
			if err != nil {
				t.Fatal(err)
			}
			const room = 4 << 10
			large := event.Permanent(event.ErrTooLarge)
			var got *event.Event
			dead := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
				if body, err := event.Structured(e); err != nil || len(body) > room {
					return large
				}
				got = e
				return nil
			})
			err = Refused(failing(large), "topic x", dead).Handle(t.Context(), e)
			if omitted := (*event.DataOmitted)(nil); got.Extensions()[event.DataOmittedExtension] != nil && !errors.As(err, &omitted) {
				t.Errorf("Handle() = %v, want that the data is omitted", err)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("letter is not a valid event: %v", err)
			}
		})
	}
}

// A source acknowledges what is refused for good: it must not take an event for that of which nobody has a letter yet.
func TestOnlyWhatNobodyWillEverTakeIsRefusedForGood(t *testing.T) {
	boom := errors.New("boom")
	forGood := event.Permanent(boom)
	away := &event.Unavailable{What: "bus", After: time.Minute}
	for _, tt := range []struct {
		name       string
		next, dead error
		want       bool
	}{
		{"the dead letter target is away", forGood, away, false},
		{"the dead letter target is away after retries", forGood, fmt.Errorf("after 2 attempts: %w", away), false},
		{"the dead letter was only stopped", forGood, fmt.Errorf("%w: %w", ErrStopped, forGood), false},
		{"the dead letter is too large however small", forGood, event.Permanent(event.ErrTooLarge), true},
		{"the dead letter target will never take it", forGood, forGood, true},
	} {
		for wrapper, h := range map[string]event.Handler{
			"Refused":    Refused(failing(tt.next), "x", failing(tt.dead)),
			"DeadLetter": DeadLetter(failing(tt.next), "x", failing(tt.dead), nil),
		} {
			err := h.Handle(t.Context(), newEvent(t, "", nil))
			if got := event.IsPermanent(err); got != tt.want || !errors.Is(err, boom) {
				t.Errorf("%s: %s: IsPermanent(%v) = %v, want %v and both reasons", wrapper, tt.name, err, got, tt.want)
			}
		}
	}
	var u *event.Unavailable
	if err := Refused(failing(forGood), "x", failing(away)).Handle(t.Context(), newEvent(t, "", nil)); !errors.As(err, &u) || u.After != time.Minute {
		t.Errorf("Handle() = %v, want it to say how long the dead letter's bus wants to be left alone", err)
	}
	if err := DeadLetter(failing(boom), "x", failing(forGood), nil).Handle(t.Context(), newEvent(t, "", nil)); event.IsPermanent(err) {
		t.Errorf("an event that may be delivered later: %v is permanent", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := DeadLetter(failing(forGood), "x", failing(nil), nil).Handle(ended, newEvent(t, "", nil)); event.IsPermanent(err) || !errors.Is(err, ErrStopped) {
		t.Errorf("a delivery that ended before its letter: %v, want ErrStopped and not permanent", err)
	}
}

func TestRefusedLeavesWhatMayBeTakenLater(t *testing.T) {
	away := &event.Unavailable{What: "bus"}
	dead := event.HandlerFunc(func(context.Context, *event.Event) error {
		t.Error("dead-lettered")
		return nil
	})
	if err := Refused(failing(away), "topic x", dead).Handle(t.Context(), newEvent(t, "", nil)); !errors.Is(err, away) {
		t.Errorf("Handle() = %v, want the error of the bus", err)
	}
}

func TestDeadLetterLeavesTheEventWithTheCaller(t *testing.T) {
	boom := errors.New("boom")
	if err := DeadLetter(failing(boom), "x", failing(errors.New("full")), nil).Handle(t.Context(), newEvent(t, "", nil)); !errors.Is(err, boom) {
		t.Errorf("with a failing dead letter target: %v, want boom", err)
	}
	stopped := fmt.Errorf("%w: boom", ErrStopped)
	called := false
	err := DeadLetter(failing(stopped), "x", event.HandlerFunc(func(context.Context, *event.Event) error {
		called = true
		return nil
	}), nil).Handle(t.Context(), newEvent(t, "", nil))
	if !errors.Is(err, ErrStopped) || called {
		t.Errorf("a delivery that was only stopped: %v, dead-lettered %v", err, called)
	}
}

func failing(err error) event.Handler {
	return event.HandlerFunc(func(context.Context, *event.Event) error { return err })
}

func TestAllRunsAtOnceAndJoinsErrors(t *testing.T) {
	var running atomic.Int32
	together := make(chan struct{})
	h := event.HandlerFunc(func(context.Context, *event.Event) error {
		if running.Add(1) == 3 {
			close(together)
		}
		<-together
		return errors.New("boom")
	})
	err := All(h, h, h).Handle(t.Context(), newEvent(t, "", nil))
	if got := fmt.Sprint(err); strings.Count(got, "boom") != 3 {
		t.Errorf("Handle() = %q, want three times boom", got)
	}
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999999999": 24 * time.Hour, "9999999": 24 * time.Hour,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}

func BenchmarkSink(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	defer server.Close()
	c := NewClient(nil)
	defer c.Close()
	s, err := c.Sink(plan.Target{URL: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	e := newEvent(b, "application/json", []byte(`{"hello":"world"}`))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Handle(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func TestASinkThatSwitchesProtocolsIsRefusedAtOnce(t *testing.T) {
	s := sinkTo(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "silence")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = conn.Close() }) // it says nothing more, and does not close
	})
	e := newEvent(t, "text/plain", []byte("x"))
	done := make(chan error, 2)
	go func() {
		done <- s.Handle(t.Context(), e)
		reply, err := s.Call(t.Context(), e)
		if err == nil && reply.Status != http.StatusSwitchingProtocols {
			err = fmt.Errorf("status %d", reply.Status)
		}
		done <- err
	}()
	for _, check := range []func(error) bool{event.IsPermanent, func(err error) bool { return err == nil }} {
		select {
		case err := <-done:
			if !check(err) {
				t.Errorf("error %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the attempt hangs on a connection that is the sink's no more")
		}
	}
}

// waits ends a context when somebody reads on after the first read.
type waits struct {
	net.Conn
	reads  atomic.Int32
	cancel context.CancelFunc
}

func (c *waits) Read(b []byte) (int, error) {
	if c.reads.Add(1) > 1 {
		c.cancel()
	}
	return c.Conn.Read(b)
}

// A caller is told which: whoever has begun to answer has the event.
func TestAReplyThatDoesNotComeIsNotASinkThatIsAway(t *testing.T) {
	begun := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		begun  bool
	}{
		"nothing": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
		"a half": {func(w http.ResponseWriter, _ *http.Request) {
			begun(w)
			panic(http.ErrAbortHandler)
		}, true},
		"a half in time": {func(w http.ResponseWriter, r *http.Request) {
			begun(w)
			<-r.Context().Done()
		}, true},
		"too much": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxReply+1)) }, true},
	} {
		for _, length := range []int{1, maxPooled + 1} {
			sink := httptest.NewServer(tt.answer)
			ctx, cancel := context.WithCancel(t.Context())
			c := NewClient(func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if name == "a half in time" {
					conn = &waits{Conn: conn, cancel: cancel}
				}
				return conn, err
			})
			s, err := c.Sink(plan.Target{Name: "sink", URL: sink.URL})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Call(ctx, newEvent(t, "text/plain", make([]byte, length))); err == nil || errors.Is(err, ErrReply) != tt.begun {
				t.Errorf("%s, %d bytes: Call() = %v, want an error that is ErrReply: %t", name, length, err, tt.begun)
			}
			cancel()
			c.Close()
			sink.Close()
		}
	}
}

func TestPauseNeverOverflows(t *testing.T) {
	for _, d := range []plan.Delivery{{BackoffDelay: 1 << 44}, {BackoffDelay: 1 << 62}, {BackoffDelay: 1 << 44, Linear: true}} {
		r := &retry{delivery: d}
		for _, attempt := range []int{0, 1, 19, 20, 1 << 20, 1 << 30} {
			if got := r.pause(attempt, errors.New("x")); got < maxBackoff*9/10 || got > maxBackoff*11/10 {
				t.Errorf("%+v: pause(%d) = %s, want about %s", d, attempt, got, maxBackoff)
			}
		}
	}
}
