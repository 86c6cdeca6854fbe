package ingress_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/plan"
)

// reply is a Route's Call that counts.
func reply(calls *int, is *ingress.Reply) func(context.Context, *event.Event) (*ingress.Reply, error) {
	return func(context.Context, *event.Event) (*ingress.Reply, error) {
		*calls++
		return is, nil
	}
}

func limited(next event.Handler, l plan.RateLimit) ingress.RouteOptions {
	o := route(next)
	o.HTTP.RateLimit = &l
	return o
}

// clock is a time that goes on when a test says so.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(at, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func TestRateLimit(t *testing.T) {
	batch := func(n int) string { return "[" + strings.Repeat(least+",", n-1) + least + "]" }
	type step struct {
		wait       time.Duration
		batch      int // zero is a single event
		status     int
		retryAfter string
		says       string
	}
	tests := []struct {
		name  string
		limit plan.RateLimit
		steps []step
		took  int
	}{
		{"singles", plan.RateLimit{PerSecond: 2, Burst: 3}, []step{
			{0, 0, 202, "", ""}, {0, 0, 202, "", ""}, {0, 0, 202, "", ""},
			{0, 0, 429, "1", "the rate limit of 2 events per second is used up"},
			{time.Second / 2, 0, 202, "", ""}, {0, 0, 429, "1", ""},
			{time.Hour, 0, 202, "", ""}, {0, 0, 202, "", ""}, {0, 0, 202, "", ""}, {0, 0, 429, "1", ""},
		}, 7},
		{"a batch counts its events", plan.RateLimit{PerSecond: 1, Burst: 5}, []step{
			{0, 4, 202, "", ""}, {0, 4, 429, "3", "used up"}, {0, 1, 202, "", ""}, {0, 4, 429, "1", "used up"}, {4 * time.Second, 4, 202, "", ""}, {0, 0, 429, "1", ""},
		}, 9},
		{"a batch above the burst", plan.RateLimit{PerSecond: 100, Burst: 2}, []step{
			{0, 3, 413, "", "the batch has 3 events and the rate limit lets 2 through at once"}, {0, 2, 202, "", ""},
		}, 2},
		{"a slow limit", plan.RateLimit{PerSecond: 0.1, Burst: 1}, []step{{0, 0, 202, "", ""}, {0, 0, 429, "10", ""}, {2500 * time.Millisecond, 0, 429, "8", ""}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			var c clock
			_, h := serving(t, ingress.Options{Now: c.now}, limited(&next, tt.limit))
			for n, step := range tt.steps {
				c.advance(step.wait)
				header, body := binaryWith(), ""
				if step.batch > 0 {
					header, body = headers(ceBatch), batch(step.batch)
				}
				response := do(h, "POST", eventPath, header, strings.NewReader(body))
				says, _ := io.ReadAll(response.Body)
				if got := response.Header.Get("Retry-After"); response.StatusCode != step.status || got != step.retryAfter || !strings.Contains(string(says), step.says) {
					t.Errorf("step %d = %d with Retry-After %q that says %q, want %d with %q that says %q", n, response.StatusCode, got, says, step.status, step.retryAfter, step.says)
				}
			}
			if len(next.took) != tt.took {
				t.Errorf("%d events taken, want %d", len(next.took), tt.took)
			}
		})
	}
}

func TestWhatIsRefusedUsesNothingOfTheLimit(t *testing.T) {
	var next inbox
	o := guarded(&next, github)
	o.HTTP.RateLimit = &plan.RateLimit{PerSecond: 1, Burst: 1}
	_, h := serving(t, ingress.Options{Now: new(clock).now}, o)
	post := func(signature, body string) int {
		return do(h, "POST", eventPath, headers(ceJSON, "X-Hub-Signature-256: sha256="+signature), strings.NewReader(body)).StatusCode
	}
	for range 3 {
		if got := post(mac("secret", least), least); got != 401 {
			t.Errorf("a wrong signature = %d, want 401", got)
		}
		if got := post(mac("new-secret", "{}"), "{}"); got != 400 {
			t.Errorf("what is no CloudEvent = %d, want 400", got)
		}
	}
	if got := post(mac("new-secret", least), least); got != 202 {
		t.Errorf("the first event = %d, want 202", got)
	}
	if got := do(h, "POST", eventPath, headers(ceJSON, "X-Hub-Signature-256: sha256=00"), unread{t}).StatusCode; got != 429 {
		t.Errorf("one above the limit = %d, want 429 before its body", got)
	}
}

func TestALimitGoesOnWhenRoutesAreSetAgain(t *testing.T) {
	var next inbox
	var c clock
	o := limited(&next, plan.RateLimit{PerSecond: 1, Burst: 1})
	i, h := serving(t, ingress.Options{Now: c.now}, o)
	post := func(when string, want int) {
		t.Helper()
		if got := do(h, "POST", eventPath, binaryWith(), nil).StatusCode; got != want {
			t.Errorf("%s: status = %d, want %d", when, got, want)
		}
	}
	post("the first", 202)
	same := o
	same.HTTP.RateLimit = &plan.RateLimit{PerSecond: 1, Burst: 1}
	same.HTTP.MaxBodyBytes = 2000
	serve(t, i, same)
	post("after the same limit", 429)
	higher := o
	higher.HTTP.RateLimit = &plan.RateLimit{PerSecond: 1, Burst: 2}
	serve(t, i, higher)
	post("after another limit", 202)
	serve(t, i, route(&next))
	for range 5 {
		post("without a limit", 202)
	}
}

func TestALimitHoldsForManyAtOnce(t *testing.T) {
	var next inbox
	_, h := serving(t, ingress.Options{Now: new(clock).now}, limited(&next, plan.RateLimit{PerSecond: 1, Burst: 10}))
	var taken, refused atomic.Int32
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			switch do(h, "POST", eventPath, binaryWith(), nil).StatusCode {
			case 202:
				taken.Add(1)
			case 429:
				refused.Add(1)
			}
		})
	}
	group.Wait()
	if taken.Load() != 10 || refused.Load() != 40 {
		t.Errorf("%d taken and %d refused, want 10 and 40", taken.Load(), refused.Load())
	}
}
