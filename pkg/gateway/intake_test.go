package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
)

// fromRedis adds to p the list l and the stream s of a server.
func fromRedis(p *plan.Plan, server *miniredis.Miniredis) *plan.Plan {
	for _, spec := range []*plan.Redis{{List: "l"}, {Stream: "s", ConsumerGroup: "g"}} {
		spec.Addresses, spec.ProcessingTimeout = []string{server.Addr()}, time.Minute
		name := spec.List + spec.Stream
		p.Sources = append(p.Sources, plan.Source{
			Namespace: "default", EventSource: "es", Event: name, Kind: "redis", Bus: "bus", Topic: plan.Topic("default", "es", name), Redis: spec,
		})
	}
	return p
}

// fails waits until the report says this of an object, and has no problem of it.
func (r *running) fails(t *testing.T, owner string, want ...string) {
	t.Helper()
	eventually(t, owner, func() error {
		got := r.Report().Objects[owner]
		slices.Sort(got.Failing)
		if !slices.Equal(got.Failing, want) || got.Problems != nil {
			return fmt.Errorf("report %+v, want failing %q", got, want)
		}
		return nil
	})
}

// The letter of an event that is too large for the bus is without its data: of an element of a list that is all there is.
func TestDataThatIsTooLargeForTheBusStaysWhereItIs(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	server := miniredis.RunT(t)
	r := startLogged(t, zap.New(core), func(*Options) {})
	r.apply(t, fromRedis(onePath(plan.Subscriber{Condition: "a", Sink: display("x")}), server))
	large := strings.Repeat("x", 9<<20)
	if _, err := server.Push("l", large); err != nil {
		t.Fatal(err)
	}
	if _, err := server.XAdd("s", "1-1", []string{"data", large}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the element is put aside", func() error {
		if got, _ := server.List("{l}:refused"); !slices.Equal(got, []string{large}) {
			return fmt.Errorf("%d elements", len(got))
		}
		return nil
	})
	said := func(message string) map[string]any {
		t.Helper()
		eventually(t, message, func() error {
			if n := logs.FilterLevelExact(zapcore.ErrorLevel).FilterMessage(message).Len(); n != 1 {
				return fmt.Errorf("said %d times; all: %v", n, logs.All())
			}
			return nil
		})
		return logs.FilterMessage(message).All()[0].ContextMap()
	}
	const refused = "event is refused for good, and no dead letter has all of it: "
	list, stream := said(refused+"the element is moved to another list"), said(refused+"the entry is left in the stream")
	for _, line := range []map[string]any{list, stream} {
		why, _ := line["error"].(string)
		if line["bytes"] != int64(9<<20) || !strings.Contains(why, "more than the 8388608 (8 MiB) that an embedded bus takes") || !strings.HasSuffix(why, ": raise that limit or send less") {
			t.Errorf("the log says %v, want the size, the limit and the cure", line)
		}
	}
	if list["to"] != "{l}:refused" || stream["entry"] != "1-1" {
		t.Errorf("the log says %v and %v, want where the data is", list, stream)
	}
	if got, _ := server.Stream("s"); len(got) != 1 {
		t.Errorf("the stream has %d entries, want the one", len(got))
	}
	r.mu.Lock()
	letters := slices.Clone(r.observed)
	r.mu.Unlock()
	if n := len(letters); n != 2 || !strings.HasPrefix(letters[0], "default/es -> deadletter topic openfunction.default.eventsource.es.deadletter: ") {
		t.Errorf("observed %q, want two dead letters", letters)
	}
	report := func() []string {
		failing := r.Report().Objects["EventSource default/es"].Failing
		slices.Sort(failing)
		return failing
	}
	got := report()
	if len(got) != 2 {
		t.Fatalf("the report says %q, want a sentence about each of two events", got)
	}
	for i, name := range []string{"l", "s"} {
		begin := "redis event " + name + ": an event was refused for good, and no dead letter has all of it: event is too large: its 9437"
		if !strings.HasPrefix(got[i], begin) || !strings.Contains(got[i], "more than the 8388608 (8 MiB) that an embedded bus takes") {
			t.Errorf("the report says %q, want %q...", got[i], begin)
		}
	}
	if failing := r.Report().Objects["bus"].Failing; failing != nil {
		t.Errorf("the bus says %q, which is the event's trouble", failing)
	}
	for _, value := range []string{"small", large + "x"} {
		if _, err := server.Push("l", value); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one more is put aside", func() error {
		if got, _ := server.List("{l}:refused"); len(got) != 2 {
			return fmt.Errorf("%d elements", len(got))
		}
		return nil
	})
	if again := report(); !slices.Equal(again, got) {
		t.Errorf("after others the report says %q, want what it said", again)
	}
}

func TestABusThatIsFullIsReported(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	server := miniredis.RunT(t)
	open := make(chan struct{})
	r := startLogged(t, zap.New(core), func(o *Options) {
		o.Display = event.HandlerFunc(func(ctx context.Context, _ *event.Event) error {
			select {
			case <-open:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	slow := quick
	slow.Retry, slow.Timeout = 1000, time.Hour
	p := fromRedis(onePath(plan.Subscriber{Condition: "a || b", Sink: display("x"), Delivery: slow}), server)
	p.Subscribers[0].Inputs[1].Topic = plan.Topic("default", "es", "s")
	p.Buses[0].Embedded.MaxBytes = 64 << 10
	r.apply(t, p)
	eventually(t, "the bus is full", func() error {
		code, body := r.post("a", fmt.Sprint(time.Now().UnixNano()))
		if code != http.StatusInsufficientStorage {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	if _, err := server.XAdd("s", "1-1", []string{"data", strings.Repeat("x", 32<<10)}); err != nil {
		t.Fatal(err)
	}
	const why = "bus is full: nats: API error: code=503 err_code=10077 description=maximum bytes exceeded: make room or raise its limit"
	source := []string{"http event a: events are not taken: " + why, "redis event s: events are not taken: " + why}
	r.fails(t, "EventSource default/es", source...)
	r.fails(t, "bus", why)
	r.fails(t, "Trigger default/t")
	if err := r.Ready(); err != nil {
		t.Errorf("Ready() = %v: it delivers all the same", err)
	}
	said := logs.FilterMessage("event is not taken, trying again").All()
	if len(said) != 1 || !strings.HasSuffix(said[0].ContextMap()["error"].(string), why) {
		t.Errorf("said %v, want once that %s", said, why)
	}
	r.apply(t, p)
	r.fails(t, "EventSource default/es", source...)
	close(open)
	eventually(t, "there is room", func() error {
		if code, body := r.post("a", "room"); code != http.StatusAccepted {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	r.fails(t, "EventSource default/es", source...) // it may be full again at once
	r.fails(t, "bus", why)
}

// refuses returns the URL of a sink that answers with code whatever has data.
func refuses(t *testing.T, code int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 {
			w.WriteHeader(code)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestALetterThatIsTooLargeForItsSinkIsOnTheBus(t *testing.T) {
	r := startLogged(t, zap.NewNop(), func(*Options) {})
	sink := refuses(t, http.StatusBadRequest)
	r.apply(t, onePath(plan.Subscriber{
		Condition: "a", Sink: &plan.Target{Name: "sink x", URL: sink}, DeadLetter: &plan.Target{Name: "sink letters", URL: refuses(t, http.StatusRequestEntityTooLarge)},
	}))
	if code, body := r.post("a", "large"); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, body)
	}
	r.wants(t, "default/t -> deadletter sink letters: large") // which has no data
	r.wants(t, "default/t -> deadletter topic "+plan.DeadLetterTopic("default", "t")+": large")
	r.fails(t, "Trigger default/t", "events are not taken by sink x: post "+sink+": status 400") // and nothing is lost
}

// tiny is a bus that takes no data.
type tiny struct{ bus.Bus }

func (tiny) Ready() error { return nil }

func (tiny) Topic(bus.Topic) event.Handler {
	return event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		if len(e.Data()) > 0 {
			return event.Permanent(fmt.Errorf("publish %s: %w", e.ID(), fmt.Errorf("%w: the limit is 0", event.ErrTooLarge)))
		}
		return nil
	})
}

func TestASubscriberTellsThatAnEventIsLost(t *testing.T) {
	r := startLogged(t, zap.NewNop(), func(*Options) {})
	sink := refuses(t, http.StatusBadRequest)
	spec := plan.Subscriber{ID: "s", Trigger: "default/t", Sink: &plan.Target{Name: "sink x", URL: sink}, DeadLetterTopic: "letters", Delivery: quick}
	b := &openBus{Bus: tiny{}}
	dead, err := r.deadLetter(spec, b)
	if err != nil {
		t.Fatal(err)
	}
	h, deliveries, err := r.deliver(spec, b, dead)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"first", "second"} {
		e := event.Event{Context: (&cloudevents.EventContextV1{ID: id, Type: "test", Source: *types.ParseURIRef("/test")})}
		if err := e.SetData("text/plain", id); err != nil {
			t.Fatal(err)
		}
		if err := h.Handle(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range deliveries {
			got = append(got, d.failing())
		}
		want := []string{"events are not taken by sink x: post " + sink + ": status 400",
			"sink x: an event was refused for good, and no dead letter has all of it: event is too large: the limit is 0: raise that limit or send less"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after the %s event (-want +got):\n%s", id, diff)
		}
	}
}

// A bus at its limit takes and refuses in turn, as subscribers make room: that is one report, until a minute after it has refused one and taken others.
func TestATopicOfABusAtItsLimit(t *testing.T) {
	full, other := &event.Unavailable{What: "bus", Full: true}, &event.Unavailable{What: "bus", Full: true, Err: errors.New("of another kind")}
	const says = "bus is full: make room or raise its limit"
	synctest.Test(t, func(t *testing.T) {
		f := &fullness{}
		step := 0
		for _, tt := range []struct {
			after time.Duration
			err   error
			want  string
		}{
			{0, nil, ""},
			{0, full, says},
			{0, nil, says},
			{30 * time.Second, nil, says},
			{30 * time.Second, other, says},
			{eased, nil, says},
			{time.Nanosecond, nil, ""},
			{0, full, says},
			{2 * eased, nil, ""}, // it took two minutes until one was taken
			{0, full, says},
		} {
			step++
			time.Sleep(tt.after)
			_ = f.handler("t", event.HandlerFunc(func(context.Context, *event.Event) error { return tt.err })).Handle(t.Context(), nil)
			if got := f.of("t"); got != tt.want {
				t.Errorf("after event %d it says %q, want %q", step, got, tt.want)
			}
		}
	})
}

// crowded is a bus that has no room.
type crowded struct{ bus.Bus }

func (crowded) Ready() error { return nil }

func (crowded) Topic(t bus.Topic) event.Handler {
	return event.HandlerFunc(func(context.Context, *event.Event) error {
		return &event.Unavailable{What: "bus", Full: true, Err: errors.New(t.Name)}
	})
}

func TestWhoeverPublishesNoticesThatABusIsFull(t *testing.T) {
	b := &openBus{Bus: crowded{}, gate: &gate{}}
	for _, h := range []event.Handler{
		b.publish(plan.Source{Topic: "events"}), b.target(bus.Topic{Name: "metrics"}), b.target(bus.Topic{Name: "metrics", Origin: "another"}), b.Topic(bus.Topic{Name: "letters"}),
	} {
		if err := h.Handle(t.Context(), nil); !isFull(err) {
			t.Errorf("Handle() = %v, want that it is full", err)
		}
	}
	const cure = ": make room or raise its limit"
	if diff := cmp.Diff([]string{"bus is full: events" + cure, "bus is full: letters" + cure, "bus is full: metrics" + cure}, b.full.failing()); diff != "" {
		t.Errorf("the bus says (-want +got):\n%s", diff)
	}
}

func TestAnIntakeForgets(t *testing.T) {
	full := fmt.Errorf("publish e1: %w", &event.Unavailable{What: "bus", Full: true})
	refused := fmt.Errorf("publish e1: %w", event.Permanent(event.ErrTooLarge))
	const why = "bus is full: make room or raise its limit"
	const saysFull, saysRefused = "x: events are not taken: " + why,
		"x: an event was refused for good, and no dead letter has all of it: event is too large"
	for _, tt := range []struct {
		name string
		errs []error
		bus  string
		want string
	}{
		{"nothing has happened", nil, "", ""},
		{"full", []error{nil, full}, why, saysFull},
		{"but does not bring back what was refused", []error{refused, nil}, "", saysRefused},
		{"a bus that is away has a problem, and tells it", []error{&event.Unavailable{What: "bus"}, errors.New("boom")}, "", ""},
		{"both", []error{refused, full}, why, saysFull + "; " + saysRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := &intake{refusals{of: "x"}, &openBus{}, "t"}
				for _, err := range tt.errs {
					next := event.HandlerFunc(func(context.Context, *event.Event) error { return err })
					if got := in.handler(in.bus.full.handler("t", next), event.IsPermanent).Handle(t.Context(), nil); got != err {
						t.Errorf("Handle() = %v, want %v", got, err)
					}
				}
				other := in.bus.full.handler("other", event.HandlerFunc(func(context.Context, *event.Event) error { return nil }))
				if err := other.Handle(t.Context(), nil); err != nil {
					t.Error(err)
				}
				for _, after := range []time.Duration{0, remembered} {
					time.Sleep(after)
					if got := in.failing(); got != tt.want {
						t.Errorf("after %v it says %q, want %q", after, got, tt.want)
					}
					if got := strings.Join(in.bus.full.failing(), "; "); got != tt.bus {
						t.Errorf("after %v the bus says %q, want %q", after, got, tt.bus)
					}
				}
				time.Sleep(time.Nanosecond)
				if got := in.failing() + strings.Join(in.bus.full.failing(), "; "); got != "" {
					t.Errorf("long after it says %q, want nothing", got)
				}
			})
		})
	}
}
