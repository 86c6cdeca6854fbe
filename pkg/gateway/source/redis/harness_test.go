package redis

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
)

const deadline = 60 * time.Second

// ways are what sets the plan to read a key in each of the ways.
var ways = map[string]func(*plan.Redis, string){
	"stream":  func(p *plan.Redis, key string) { p.Stream, p.ConsumerGroup = key, "group" },
	"list":    func(p *plan.Redis, key string) { p.List = key },
	"channel": func(p *plan.Redis, key string) { p.Channel = key },
	"pattern": func(p *plan.Redis, key string) { p.Pattern = key + "*" },
}

// options are of a source with a heartbeat so fast that no test waits for it.
func options(way, key string, addresses ...string) Options {
	p := &plan.Redis{Addresses: addresses, RedeliverInterval: 200 * time.Millisecond, ProcessingTimeout: 3 * time.Second}
	ways[way](p, key)
	return Options{Instance: "test-0", Source: plan.Source{Namespace: "ns", EventSource: "es", Event: "ev", Kind: "redis", Redis: p}}
}

// fixture is what the conformance suite needs to read in one way.
func fixture(way string, c redis.UniversalClient, base plan.Redis) sourcetest.Fixture {
	var mu sync.Mutex
	origins := 0
	produce := func(t testing.TB, key string, values ...string) {
		t.Helper()
		for _, v := range values {
			if err := push(c, way, key, v); err != nil {
				t.Fatalf("produce to %s: %v", key, err)
			}
		}
	}
	return sourcetest.Fixture{
		Kind: "redis",
		Origin: func(testing.TB) string {
			mu.Lock()
			defer mu.Unlock()
			origins++
			return fmt.Sprintf("%s-%d", way, origins)
		},
		New: func(_ testing.TB, p sourcetest.Process) source.Source {
			spec := base
			ways[way](&spec, p.Origin)
			if p.Wrong {
				spec.Password = sourcetest.WrongSecret
			}
			p.Source.Redis = &spec
			return New(Options{Source: p.Source, Dial: p.Dial, Instance: p.Instance})
		},
		Produce: func(t testing.TB, key string, data ...[]byte) {
			t.Helper()
			for _, d := range data {
				produce(t, key, string(d))
			}
		},
		ProduceEvent: func(t testing.TB, key string, e *event.Event) {
			t.Helper()
			body, err := event.Structured(e)
			if err != nil {
				t.Fatal(err)
			}
			produce(t, key, string(body))
		},
		AtLeastOnce: way == "stream" || way == "list",
		Positions:   way == "stream",
		Persistent:  true,
		Refusal:     []string{"WRONGPASS", "redisUsername", "redisPasswordFrom", base.Addresses[0]},
	}
}

// push gives a value to whoever reads key.
func push(c redis.UniversalClient, way, key, value string) error {
	ctx := context.Background()
	switch way {
	case "stream":
		return c.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"data", value}}).Err()
	case "list":
		return c.RPush(ctx, key, value).Err()
	}
	return c.Publish(ctx, key, value).Err()
}

// running is a Source that runs.
type running struct {
	t    *testing.T
	err  error
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	reports []error
}

func start(t *testing.T, o Options, next event.Handler) *running {
	t.Helper()
	return startLogged(t, o, next, zap.NewNop().Sugar())
}

func startLogged(t *testing.T, o Options, next event.Handler, log *zap.SugaredLogger) *running {
	t.Helper()
	ctx, stop := context.WithCancel(logging.WithLogger(context.Background(), log))
	r := &running{t: t, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = New(o).Run(ctx, next, r.report)
	}()
	t.Cleanup(r.end)
	return r
}

func (r *running) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, err)
}

// all returns what ready was called with.
func (r *running) all() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.reports)
}

// end stops the source and waits until it has.
func (r *running) end() {
	r.stop()
	select {
	case <-r.done:
	case <-time.After(deadline):
		r.t.Errorf("Run() has not returned %s after its context was done", deadline)
		return
	}
	if r.err != nil {
		r.t.Errorf("Run() = %v", r.err)
	}
}

// awaitReady waits until ready was called last with nil, or with an error if not ok, and returns that.
func (r *running) awaitReady(ok bool) (err error) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("ready is %t", ok), func() bool {
		all := r.all()
		if len(all) == 0 {
			return false
		}
		err = all[len(all)-1]
		return (err == nil) == ok
	})
	return err
}

// sink is a handler that counts the data of what it takes.
type sink struct {
	mu  sync.Mutex
	got map[string]int
	// refuse, when set, is asked for every event first.
	refuse func(data string) error
}

func (s *sink) Handle(_ context.Context, e *event.Event) error {
	data := string(e.Data())
	if s.refuse != nil {
		if err := s.refuse(data); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got == nil {
		s.got = map[string]int{}
	}
	s.got[data]++
	return nil
}

func (s *sink) count(data string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[data]
}

// total counts the distinct events that any of the sinks took, and how often one was taken again.
func total(sinks ...*sink) (distinct, repeated int) {
	all := map[string]int{}
	for _, s := range sinks {
		s.mu.Lock()
		for data, n := range s.got {
			all[data] += n
		}
		s.mu.Unlock()
	}
	for _, n := range all {
		repeated += n - 1
	}
	return len(all), repeated
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %s: %s", deadline, what)
		}
	}
}

// groupGoes removes a group and then its stream while they are read.
func groupGoes(t *testing.T, c redis.UniversalClient, address string) {
	s := &sink{}
	add := func(id, value string) {
		t.Helper()
		if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "goes", ID: id, Values: []string{"data", value}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	taken := func(value string) {
		t.Helper()
		eventually(t, value, func() bool { return s.count(value) > 0 })
	}
	add("1-1", "before the group was")
	r := start(t, options("stream", "goes", address), s)
	r.awaitReady(true)
	add("5-1", "first")
	taken("first")

	if err := c.XGroupDestroy(t.Context(), "goes", "group").Err(); err != nil {
		t.Fatal(err)
	}
	add("5-2", "while there was no group")
	taken("while there was no group")

	if err := c.Del(t.Context(), "goes").Err(); err != nil {
		t.Fatal(err)
	}
	add("2-1", "in a new stream with lower ids")
	taken("in a new stream with lower ids")
	if n := s.count("before the group was"); n > 0 {
		t.Errorf("the entry from before the group was came %d times", n)
	}
	if reports := r.all(); len(reports) != 1 {
		t.Errorf("ready was called with %v, want only nil at the start", reports)
	}
}
