package redis

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
)

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

func start(t *testing.T, o Options, next event.Handler) *runtest.Running {
	t.Helper()
	return startLogged(t, o, next, zap.NewNop().Sugar())
}

func startLogged(t *testing.T, o Options, next event.Handler, log *zap.SugaredLogger) *runtest.Running {
	t.Helper()
	return runtest.Start(t, New(o), next, log)
}

// groupGoes removes a group and then its stream while they are read.
func groupGoes(t *testing.T, c redis.UniversalClient, address string) {
	s := &runtest.Sink{}
	add := func(id, value string) {
		t.Helper()
		if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "goes", ID: id, Values: []string{"data", value}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	taken := func(value string) {
		t.Helper()
		runtest.Eventually(t, value, func() bool { return s.Count(value) > 0 })
	}
	add("1-1", "before the group was")
	r := start(t, options("stream", "goes", address), s)
	r.AwaitReady(true)
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
	if n := s.Count("before the group was"); n > 0 {
		t.Errorf("the entry from before the group was came %d times", n)
	}
	if n := len(r.Ready); n != 0 {
		t.Errorf("ready was called %d times after the start, first with %v", n, <-r.Ready)
	}
}
