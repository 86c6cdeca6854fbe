// Package metrics counts what the data plane does, for Prometheus. docs/metrics.md explains each metric.
package metrics

import (
	"context"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openfunction/events/pkg/event"
)

// Metrics are those of one process. Their methods may be called from many goroutines at once.
type Metrics struct {
	registry                    *prometheus.Registry
	accepted, failed, responses *prometheus.CounterVec
	taken, missed, buried       *prometheus.CounterVec
	duration                    *prometheus.HistogramVec

	mu     sync.Mutex
	owners map[owner]bool
}

// owner is an object that has asked for something: the labels that every metric of ours has.
type owner struct{ kind, namespace, name string }

var ownerLabels = []string{"kind", "namespace", "name"}

// split understands owners as a plan has them: "Trigger ns/name", and "ClusterEventBus name".
func split(s string) owner {
	kind, object, _ := strings.Cut(s, " ")
	namespace, name, found := strings.Cut(object, "/")
	if !found {
		namespace, name = "", object
	}
	return owner{kind, namespace, name}
}

func (o owner) with(labels ...string) []string {
	return append([]string{o.kind, o.namespace, o.name}, labels...)
}

// New returns Metrics without any owner. At each collection, ready is asked which owners there are and whether all is well with each.
func New(ready func() map[string]bool) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		accepted: counter("events_accepted_total", "Events of a source that its bus or its sink has taken.", "source", "event"),
		failed: counter("events_failed_total",
			"Attempts to hand an event of a source to its bus or its sink that failed. The source tries again, or whoever posted the event was told.", "source", "event"),
		responses: counter("http_responses_total", "Answers to posts of an HTTP event.", "event", "code"),
		taken:     counter("deliveries_total", "Events that a target has taken.", "target"),
		missed:    counter("delivery_failures_total", "Attempts to deliver an event to a target that failed.", "target"),
		buried:    counter("dead_letters_total", "Events that became dead letters, since their target did not take them.", "target"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "openfunction_delivery_duration_seconds", Help: "How long attempts to deliver an event to a target took, those that failed included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, slices.Concat(ownerLabels, []string{"target"})),
		owners: map[owner]bool{},
	}
	m.registry.MustRegister(m.accepted, m.failed, m.responses, m.taken, m.missed, m.buried, m.duration, state(ready),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "openfunction_" + name, Help: help}, slices.Concat(ownerLabels, labels))
}

// Handler serves all metrics in the formats of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Keep forgets what is counted for all but these owners. Whoever counts for another one from then on counts for nobody.
func (m *Metrics) Keep(owners iter.Seq[string]) {
	keep := map[owner]bool{}
	for o := range owners {
		keep[split(o)] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for o := range m.owners {
		if keep[o] {
			continue
		}
		delete(m.owners, o)
		for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{m.accepted, m.failed, m.responses, m.taken, m.missed, m.buried, m.duration} {
			v.DeletePartialMatch(prometheus.Labels{"kind": o.kind, "namespace": o.namespace, "name": o.name})
		}
	}
}

func (m *Metrics) owner(s string) owner {
	o := split(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owners[o] = true
	return o
}

// Source counts the events of one event of an EventSource.
type Source struct {
	m                *Metrics
	owner            owner
	event            string
	accepted, failed prometheus.Counter
	safe             prometheus.Counter // of the answers 202, which are most
	responses        sync.Map           // prometheus.Counter by status
}

// Source returns the counts of an event of an owner, from a source of that kind.
func (m *Metrics) Source(of, kind, event string) *Source {
	o := m.owner(of)
	s := &Source{
		m: m, owner: o, event: event,
		accepted: m.accepted.WithLabelValues(o.with(kind, event)...), failed: m.failed.WithLabelValues(o.with(kind, event)...),
	}
	if kind == "http" {
		s.safe = s.response(http.StatusAccepted)
	}
	return s
}

// Handler returns a handler that counts what next does.
func (s *Source) Handler(next event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		s.Handled(err == nil)
		return err
	})
}

// Handled counts one event that was taken or not.
func (s *Source) Handled(ok bool) {
	if ok {
		s.accepted.Inc()
	} else {
		s.failed.Inc()
	}
}

// Answered counts the answer to one post.
func (s *Source) Answered(code int) {
	if code == http.StatusAccepted {
		s.safe.Inc()
		return
	}
	c, ok := s.responses.Load(code)
	if !ok {
		c = s.response(code)
	}
	c.(prometheus.Counter).Inc()
}

// response makes the count of a status, for nobody if the owner is gone: a request may still be inside then.
func (s *Source) response(code int) prometheus.Counter {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	var c prometheus.Counter = prometheus.NewCounter(prometheus.CounterOpts{Name: "nobody"})
	if s.m.owners[s.owner] {
		c = s.m.responses.WithLabelValues(s.owner.with(s.event, strconv.Itoa(code))...)
	}
	s.responses.Store(code, c)
	return c
}

// Target counts the deliveries of an owner to one of its targets.
type Target struct {
	taken, missed, buried prometheus.Counter
	duration              prometheus.Observer
}

// Target returns the counts of a target of an owner.
func (m *Metrics) Target(of, target string) *Target {
	t := m.Letters(of, target)
	labels := split(of).with(target)
	t.taken, t.missed, t.duration = m.taken.WithLabelValues(labels...), m.missed.WithLabelValues(labels...), m.duration.WithLabelValues(labels...)
	return t
}

// Letters returns a Target for which only dead letters are counted.
func (m *Metrics) Letters(of, target string) *Target {
	return &Target{buried: m.buried.WithLabelValues(m.owner(of).with(target)...)}
}

// Attempts returns a handler that counts each attempt that next makes.
func (t *Target) Attempts(next event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		begin := time.Now()
		err := next.Handle(ctx, e)
		t.Attempted(begin, err == nil)
		return err
	})
}

// Attempted counts an attempt that ends now.
func (t *Target) Attempted(begin time.Time, ok bool) {
	t.duration.Observe(time.Since(begin).Seconds())
	if ok {
		t.taken.Inc()
	} else {
		t.missed.Inc()
	}
}

// Buried counts a dead letter.
func (t *Target) Buried() { t.buried.Inc() }

// DeadLetters returns a handler that counts the dead letters that next takes.
func (t *Target) DeadLetters(next event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if err == nil {
			t.Buried()
		}
		return err
	})
}

// state collects how owners are.
type state func() map[string]bool

var readyDesc = prometheus.NewDesc("openfunction_ready",
	"Whether events flow as far as this process can tell: 1 if its buses answer, its subscriptions exist and its sources receive, else 0.", ownerLabels, nil)

// Describe implements prometheus.Collector.
func (s state) Describe(all chan<- *prometheus.Desc) { all <- readyDesc }

// Collect implements prometheus.Collector.
func (s state) Collect(all chan<- prometheus.Metric) {
	for o, ready := range s() {
		value := 0.0
		if ready {
			value = 1
		}
		all <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, value, split(o).with()...)
	}
}
