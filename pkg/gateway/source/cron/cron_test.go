package cron_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source/cron"
	"github.com/openfunction/events/pkg/plan"
)

// clock is time.Now, set to another time. Inside a synctest bubble waiting for it takes no time.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func newClock(at string) *clock {
	start, err := time.Parse(time.RFC3339, at)
	if err != nil {
		panic(err)
	}
	return &clock{offset: time.Until(start)}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// inbox is a handler that remembers what it took.
type inbox struct {
	mu     sync.Mutex
	events []*event.Event
}

func (i *inbox) Handle(_ context.Context, e *event.Event) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.events = append(i.events, e)
	return nil
}

func (i *inbox) ids() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	ids := []string{}
	for _, e := range i.events {
		ids = append(ids, e.ID())
	}
	return ids
}

func newSource(t *testing.T, c plan.Cron, clk *clock) *cron.Source {
	t.Helper()
	schedule, err := v1alpha1.ParseSchedule(c.Schedule, c.TimeZone)
	if err != nil {
		t.Fatal(err)
	}
	return cron.New(cron.Options{
		Source: plan.Source{Namespace: "ns", EventSource: "es", Event: "e", Kind: "cron", Cron: &c}, Schedule: schedule, Now: clk.now,
	})
}

// run starts s and returns what stops it and waits for its end.
func run(t *testing.T, s *cron.Source, next event.Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan error, 1)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, next, func(err error) { ready <- err }) }()
	if err := <-ready; err != nil {
		t.Errorf("ready(%v), want nil", err)
	}
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	}
}

func TestTicks(t *testing.T) {
	tests := []struct {
		name, schedule, zone, from string
		lasts                      time.Duration
		want                       []string
	}{{
		name: "noon stays noon when summer time begins", schedule: "0 12 * * *", zone: "Europe/Berlin", from: "2026-03-28T00:00:00Z", lasts: 72 * time.Hour,
		want: []string{"2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z", "2026-03-30T10:00:00Z"},
	}, {
		name: "noon stays noon when summer time ends", schedule: "0 12 * * *", zone: "Europe/Berlin", from: "2026-10-24T00:00:00Z", lasts: 48 * time.Hour,
		want: []string{"2026-10-24T10:00:00Z", "2026-10-25T11:00:00Z"},
	}, {
		name: "a time that summer time leaps over is left out", schedule: "30 2 * * *", zone: "Europe/Berlin", from: "2026-03-28T00:00:00Z", lasts: 72 * time.Hour,
		want: []string{"2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"},
	}, {
		name: "a time that comes twice is two ticks", schedule: "30 2 * * *", zone: "Europe/Berlin", from: "2026-10-24T12:00:00Z", lasts: 48 * time.Hour,
		want: []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"},
	}, {
		name: "every hour is every hour when a clock hour comes twice", schedule: "@hourly", zone: "Europe/Berlin", from: "2026-10-24T23:30:00Z", lasts: 4 * time.Hour,
		want: []string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"},
	}, {
		name: "six fields begin with seconds", schedule: "*/20 * * * * *", from: "2026-01-01T00:00:05Z", lasts: time.Minute,
		want: []string{"2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z", "2026-01-01T00:01:00Z"},
	}, {
		name: "a period is aligned, not counted from the start", schedule: "@every 15s", from: "2026-01-01T00:00:07Z", lasts: 40 * time.Second,
		want: []string{"2026-01-01T00:00:15Z", "2026-01-01T00:00:30Z", "2026-01-01T00:00:45Z"},
	}, {
		name: "a tick at the very start is over", schedule: "@every 15s", from: "2026-01-01T00:00:00Z", lasts: 20 * time.Second,
		want: []string{"2026-01-01T00:00:15Z"},
	}, {
		name: "a period with a fraction has it in its ids", schedule: "@every 1500ms", from: "2026-01-01T00:00:00Z", lasts: 3200 * time.Millisecond,
		want: []string{"2026-01-01T00:00:01.5Z", "2026-01-01T00:00:03Z"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got inbox
				stop := run(t, newSource(t, plan.Cron{Schedule: tt.schedule, TimeZone: tt.zone}, newClock(tt.from)), &got)
				time.Sleep(tt.lasts)
				stop()
				if diff := cmp.Diff(tt.want, got.ids()); diff != "" {
					t.Errorf("ids (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestEvent(t *testing.T) {
	data := func(s string) *string { return &s }
	tests := []struct {
		name string
		cron plan.Cron
		mark bool
		want string
	}{{
		name: "without data it says when and why", cron: plan.Cron{Schedule: "@every 10s"},
		want: `{"specversion":"1.0","id":"2026-01-01T00:00:10Z","source":"/namespaces/ns/eventsources/es/e","type":"io.openfunction.events.cron",` +
			`"time":"2026-01-01T00:00:10Z","datacontenttype":"application/json","data":{"time":"2026-01-01T00:00:10Z","schedule":"@every 10s"}}`,
	}, {
		name: "data is what the schedule says, marked with its kind", cron: plan.Cron{Schedule: "@every 10s", Data: data("hi"), ContentType: "text/plain"}, mark: true,
		want: `{"specversion":"1.0","id":"2026-01-01T00:00:10Z","source":"/namespaces/ns/eventsources/es/e","type":"io.openfunction.events.cron",` +
			`"time":"2026-01-01T00:00:10Z","datacontenttype":"text/plain","openfunctionkind":"cron","data":"hi"}`,
	}, {
		name: "empty data is no data", cron: plan.Cron{Schedule: "@every 10s", Data: data("")},
		want: `{"specversion":"1.0","id":"2026-01-01T00:00:10Z","source":"/namespaces/ns/eventsources/es/e","type":"io.openfunction.events.cron",` +
			`"time":"2026-01-01T00:00:10Z","datacontenttype":"application/json"}`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				schedule, err := v1alpha1.ParseSchedule(tt.cron.Schedule, "")
				if err != nil {
					t.Fatal(err)
				}
				var got inbox
				stop := run(t, cron.New(cron.Options{
					Source:   plan.Source{Namespace: "ns", EventSource: "es", Event: "e", MarkKind: tt.mark, Cron: &tt.cron},
					Schedule: schedule, Now: newClock("2026-01-01T00:00:00Z").now,
				}), &got)
				time.Sleep(11 * time.Second)
				stop()
				if len(got.events) != 1 {
					t.Fatalf("%d events, want 1", len(got.events))
				}
				body, err := event.Structured(got.events[0])
				if diff := cmp.Diff(tt.want, string(body)); err != nil || diff != "" {
					t.Errorf("Structured() = %v, event (-want +got):\n%s", err, diff)
				}
			})
		})
	}
}

func TestTwoInstancesMakeEqualEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk := newClock("2026-01-01T00:00:03Z")
		var first, second inbox
		spec := plan.Cron{Schedule: "@every 5s"}
		stopFirst := run(t, newSource(t, spec, clk), &first)
		time.Sleep(6300 * time.Millisecond)
		stopSecond := run(t, newSource(t, spec, clk), &second)
		time.Sleep(12 * time.Second)
		stopFirst()
		stopSecond()
		want := []string{"2026-01-01T00:00:10Z", "2026-01-01T00:00:15Z", "2026-01-01T00:00:20Z"}
		if diff := cmp.Diff(want, second.ids()); diff != "" {
			t.Errorf("ids of the second (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(second.ids(), first.ids()[1:]); diff != "" {
			t.Errorf("ids of the first (-second +first):\n%s", diff)
		}
	})
}

func TestClockJumps(t *testing.T) {
	tests := []struct {
		name, schedule string
		jump           time.Duration
		then           time.Duration
		want           []string
	}{{
		name: "only the latest of many missed ticks happens", schedule: "@every 10s", jump: 2*time.Hour + time.Second, then: 10 * time.Second,
		want: []string{"2026-01-01T00:00:10Z", "2026-01-01T02:00:20Z"},
	}, {
		name: "a tick that was missed by an hour does not happen", schedule: "30 0 * * *", jump: 90 * time.Minute, then: 26 * time.Hour,
		want: []string{"2026-01-02T00:30:00Z"},
	}, {
		name: "a tick that was missed by seconds happens", schedule: "30 0 * * *", jump: 29*time.Minute + 20*time.Second, then: time.Minute,
		want: []string{"2026-01-01T00:30:00Z"},
	}, {
		name: "ticks happen again when the clock is set back", schedule: "@every 10m", jump: -15 * time.Minute, then: 17 * time.Minute,
		want: []string{"2025-12-31T23:50:00Z", "2026-01-01T00:00:00Z"},
	}, {
		name: "ticks do not happen again when the clock is corrected by seconds", schedule: "@every 10s", jump: -4 * time.Second, then: 10 * time.Second,
		want: []string{"2026-01-01T00:00:10Z", "2026-01-01T00:00:20Z"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clk := newClock("2026-01-01T00:00:01Z")
				var got inbox
				stop := run(t, newSource(t, plan.Cron{Schedule: tt.schedule}, clk), &got)
				time.Sleep(13 * time.Second)
				clk.jump(tt.jump)
				time.Sleep(tt.then)
				stop()
				if diff := cmp.Diff(tt.want, got.ids()); diff != "" {
					t.Errorf("ids (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestFailingNextIsTriedAgain(t *testing.T) {
	tests := []struct {
		name string
		err  error
		fail int
		want []time.Duration
	}{
		{"with growing pauses", errors.New("away"), 3, []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, 1400 * time.Millisecond}},
		{"after the pause it asks for", &event.Unavailable{What: "bus", After: 3 * time.Second}, 1, []time.Duration{0, 3 * time.Second}},
		{"after five seconds at the most", &event.Unavailable{What: "bus", After: time.Hour}, 1, []time.Duration{0, 5 * time.Second}},
		{"but not when that cannot help", event.Permanent(errors.New("too large")), 1, []time.Duration{0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clk := newClock("2026-01-01T00:59:00Z")
				due := clk.now().Add(time.Minute)
				var got []time.Duration
				next := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
					if want := "2026-01-01T01:00:00Z"; e.ID() != want {
						t.Errorf("id = %s, want %s", e.ID(), want)
					}
					got = append(got, clk.now().Sub(due))
					if len(got) <= tt.fail {
						return fmt.Errorf("publish: %w", tt.err)
					}
					return nil
				})
				stop := run(t, newSource(t, plan.Cron{Schedule: "@hourly"}, clk), next)
				time.Sleep(5 * time.Minute)
				stop()
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("attempts after the tick (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestTicksUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		inside, most := 0, 0
		release := make(chan struct{})
		var got inbox
		next := event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			<-release
			mu.Lock()
			inside--
			mu.Unlock()
			return got.Handle(ctx, e)
		})
		stop := run(t, newSource(t, plan.Cron{Schedule: "@every 1s"}, newClock("2026-01-01T00:00:00Z")), next)
		time.Sleep(130500 * time.Millisecond)
		close(release)
		time.Sleep(2 * time.Second)
		stop()
		if most != 100 {
			t.Errorf("%d ticks were under way at once, want 100", most)
		}
		// The tick that waited its turn, the latest of those missed meanwhile and the two since.
		seen := map[string]bool{}
		for _, id := range got.ids() {
			seen[id] = true
		}
		for _, id := range []string{"2026-01-01T00:01:41Z", "2026-01-01T00:02:10Z", "2026-01-01T00:02:11Z", "2026-01-01T00:02:12Z"} {
			if !seen[id] {
				t.Errorf("tick %s is missing", id)
			}
		}
		if len(seen) != 104 || len(got.events) != 104 {
			t.Errorf("%d events of %d ticks, want 104 of 104", len(got.events), len(seen))
		}
	})
}

func TestMissedTicksAreSaidWithTheirDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk := newClock("2026-01-01T00:00:01Z")
		core, logs := observer.New(zap.WarnLevel)
		ctx, cancel := context.WithCancel(logging.WithLogger(t.Context(), zap.New(core).Sugar()))
		s := newSource(t, plan.Cron{Schedule: "30 0 * * *"}, clk)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, &inbox{}, func(error) {}) }()
		time.Sleep(13 * time.Second)
		clk.jump(49 * time.Hour)
		time.Sleep(2 * time.Minute)
		cancel()
		<-ended
		lines := logs.FilterMessage("ticks were missed and are skipped").All()
		if len(lines) != 1 {
			t.Fatalf("%d lines, want 1: %v", len(lines), logs.All())
		}
		for key, want := range map[string]string{"from": "2026-01-01T00:30", "to": "2026-01-03T01:0"} {
			said, err := time.Parse(time.RFC3339, fmt.Sprint(lines[0].ContextMap()[key]))
			if got := said.UTC().Format(time.RFC3339); err != nil || !strings.HasPrefix(got, want) {
				t.Errorf("%s %s, %v, want %s...", key, got, err, want)
			}
		}
	})
}

func TestStopWaitsForWhatIsUnderWay(t *testing.T) {
	tests := []struct {
		name  string
		takes time.Duration
		want  time.Duration
		err   error
	}{
		{"as long as it needs", 3 * time.Second, 2 * time.Second, nil},
		{"for five seconds at the most", time.Hour, 5 * time.Second, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got error
				next := event.HandlerFunc(func(ctx context.Context, _ *event.Event) error {
					select {
					case <-time.After(tt.takes):
					case <-ctx.Done():
					}
					got = ctx.Err()
					return got
				})
				stop := run(t, newSource(t, plan.Cron{Schedule: "@hourly"}, newClock("2026-01-01T00:59:59Z")), next)
				time.Sleep(2 * time.Second)
				before := time.Now()
				stop()
				if took := time.Since(before); took != tt.want {
					t.Errorf("stopping took %s, want %s", took, tt.want)
				}
				if got != tt.err {
					t.Errorf("the context of the last tick ended with %v, want %v", got, tt.err)
				}
			})
		})
	}
}

type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }

func TestADateThatNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got inbox
		stop := run(t, cron.New(cron.Options{Source: plan.Source{Cron: &plan.Cron{}}, Schedule: never{}}), &got)
		time.Sleep(time.Hour)
		stop()
		if ids := strings.Join(got.ids(), " "); ids != "" {
			t.Errorf("events %s, want none", ids)
		}
	})
}
