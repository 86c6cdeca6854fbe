package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/plan"
)

// scrape returns what /metrics has of ours, without the durations, by series.
func (r *running) scrape(t *testing.T) map[string]string {
	t.Helper()
	response, err := http.Get("http://" + r.MetricsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %d, %v\n%s", response.StatusCode, err, body)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if i := strings.LastIndex(line, " "); strings.HasPrefix(line, "openfunction_") && !strings.Contains(line, "_bucket{") && !strings.Contains(line, "_sum{") {
			all[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return all
}

// wantsMetrics waits until these series have these values. An empty value wants that there is none.
func (r *running) wantsMetrics(t *testing.T, want map[string]string) {
	t.Helper()
	eventually(t, "metrics", func() error {
		got := r.scrape(t)
		for series, value := range want {
			if got[series] != value {
				return fmt.Errorf("%s is %q, want %q; all: %q", series, got[series], value, got)
			}
		}
		return nil
	})
}

// wantsDocumented compares the metrics with those of the table of their page.
func (r *running) wantsDocumented(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, served := map[string]bool{}, map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(openfunction_[a-z_]+)`").FindAllSubmatch(page, -1) {
		documented[string(row[1])] = true
	}
	for series := range r.scrape(t) {
		name, _, _ := strings.Cut(series, "{")
		served[strings.TrimSuffix(name, "_count")] = true
	}
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Errorf("metrics (-docs/metrics.md +served):\n%s", diff)
	}
}

func TestMetricsCountWhatHappens(t *testing.T) {
	var calls atomic.Int32
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("ce-id") == "bad":
			w.WriteHeader(http.StatusBadRequest)
		case calls.Add(1) == 1:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer sink.Close()
	r := startWith(t, func(o *Options) { o.Metrics = "127.0.0.1:0" })
	p := onePath(plan.Subscriber{Condition: "a", Sink: &plan.Target{Name: "sink default/fn", URL: sink.URL}, Topic: "copies"})
	p.Sources[1].HTTP.Auth = &plan.HTTPAuth{Bearer: &plan.Bearer{Tokens: []string{"token"}}}
	r.apply(t, p)
	r.wantsMetrics(t, map[string]string{ // all exist from the beginning, so that a rate counts the first one
		`openfunction_events_accepted_total{event="a",kind="EventSource",name="es",namespace="default",source="http"}`:       "0",
		`openfunction_events_failed_total{event="a",kind="EventSource",name="es",namespace="default",source="http"}`:         "0",
		`openfunction_http_responses_total{code="202",event="a",kind="EventSource",name="es",namespace="default"}`:           "0",
		`openfunction_deliveries_total{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`:                "0",
		`openfunction_delivery_failures_total{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`:         "0",
		`openfunction_dead_letters_total{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`:              "0",
		`openfunction_delivery_duration_seconds_count{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`: "0",
		`openfunction_ready{kind="Trigger",name="t",namespace="default"}`:                                                    "1",
		`openfunction_ready{kind="EventSource",name="es",namespace="default"}`:                                               "1",
	})
	for _, id := range []string{"1", "2", "bad"} {
		r.mustPost(t, "a", id)
	}
	if code, body := r.post("b", "1"); code != http.StatusUnauthorized {
		t.Fatalf("post without a token: %d %s", code, body)
	}
	r.wantsMetrics(t, map[string]string{
		`openfunction_events_accepted_total{event="a",kind="EventSource",name="es",namespace="default",source="http"}`:       "3",
		`openfunction_events_failed_total{event="a",kind="EventSource",name="es",namespace="default",source="http"}`:         "0",
		`openfunction_http_responses_total{code="202",event="a",kind="EventSource",name="es",namespace="default"}`:           "3",
		`openfunction_http_responses_total{code="401",event="b",kind="EventSource",name="es",namespace="default"}`:           "1",
		`openfunction_deliveries_total{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`:                "2",
		`openfunction_delivery_failures_total{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`:         "2",
		`openfunction_dead_letters_total{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`:              "1",
		`openfunction_delivery_duration_seconds_count{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`: "4",
		`openfunction_deliveries_total{kind="Trigger",name="t",namespace="default",target="topic copies"}`:                   "3",
	})
	r.wantsDocumented(t)
	p.Subscribers = nil
	r.apply(t, p)
	r.wantsMetrics(t, map[string]string{
		`openfunction_deliveries_total{kind="Trigger",name="t",namespace="default",target="sink default/fn"}`:          "",
		`openfunction_ready{kind="Trigger",name="t",namespace="default"}`:                                              "",
		`openfunction_events_accepted_total{event="a",kind="EventSource",name="es",namespace="default",source="http"}`: "3",
	})
}

func TestMetricsOfADirectSink(t *testing.T) {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-id") == "bad" {
			w.WriteHeader(http.StatusConflict)
		}
	}))
	defer sink.Close()
	r := startWith(t, func(o *Options) { o.Metrics = "127.0.0.1:0" })
	source := plan.Source{
		Namespace: "default", EventSource: "es", Sink: &plan.Target{Name: "sink default/fn", URL: sink.URL}, Delivery: plan.Delivery{Timeout: time.Minute},
	}
	call, tick := source, source
	call.Event, call.Kind, call.HTTP = "call", "http", &plan.HTTP{MaxBodyBytes: 1 << 20}
	tick.Event, tick.Kind, tick.Cron = "tick", "cron", &plan.Cron{Schedule: "@every 1s"}
	r.apply(t, &plan.Plan{Sources: []plan.Source{call}})
	for id, want := range map[string]int{"good": http.StatusOK, "bad": http.StatusConflict} {
		if code, body := r.post("call", id); code != want {
			t.Fatalf("call %s: %d %s, want %d", id, code, body, want)
		}
	}
	r.wantsMetrics(t, map[string]string{
		`openfunction_events_accepted_total{event="call",kind="EventSource",name="es",namespace="default",source="http"}`: "1",
		`openfunction_events_failed_total{event="call",kind="EventSource",name="es",namespace="default",source="http"}`:   "1",
		`openfunction_http_responses_total{code="200",event="call",kind="EventSource",name="es",namespace="default"}`:     "1",
		`openfunction_http_responses_total{code="409",event="call",kind="EventSource",name="es",namespace="default"}`:     "1",
		`openfunction_deliveries_total{kind="EventSource",name="es",namespace="default",target="sink default/fn"}`:        "1",
		`openfunction_delivery_failures_total{kind="EventSource",name="es",namespace="default",target="sink default/fn"}`: "1",
	})
	r.apply(t, &plan.Plan{Sources: []plan.Source{tick}})
	r.wantsMetrics(t, map[string]string{
		`openfunction_events_accepted_total{event="tick",kind="EventSource",name="es",namespace="default",source="cron"}`: "1",
		`openfunction_deliveries_total{kind="EventSource",name="es",namespace="default",target="sink default/fn"}`:        "2",
	})
}

func TestMetricsSayWhatIsNotReady(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Metrics = "127.0.0.1:0" })
	p := onePath(plan.Subscriber{Condition: "a", Topic: "copies"})
	p.Buses[0] = plan.Bus{Name: "bus", JetStream: &plan.JetStream{URL: "nats://127.0.0.1:1", Replicas: 1}}
	if err := r.Apply(p); err != nil {
		t.Fatal(err)
	}
	r.wantsMetrics(t, map[string]string{
		`openfunction_ready{kind="Trigger",name="t",namespace="default"}`:      "0",
		`openfunction_ready{kind="EventSource",name="es",namespace="default"}`: "0",
	})
	if code, body := r.post("a", "1"); code != http.StatusServiceUnavailable {
		t.Fatalf("post: %d %s", code, body)
	}
	r.wantsMetrics(t, map[string]string{
		`openfunction_events_failed_total{event="a",kind="EventSource",name="es",namespace="default",source="http"}`: "1",
		`openfunction_http_responses_total{code="503",event="a",kind="EventSource",name="es",namespace="default"}`:   "1",
	})
}

// A port that is taken leaves none of the others open.
func TestAListenerThatCannotBeOpened(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Metrics = "127.0.0.1:0" })
	_, err := New(t.Context(), Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Metrics: r.MetricsAddr()})
	if err == nil || !strings.Contains(err.Error(), "metrics: listen tcp "+r.MetricsAddr()) {
		t.Errorf("New() = %v, want that the metrics' address is in use", err)
	}
}
