//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/gateway"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// What a gateway may have more than before: connections come and go, and garbage is not all found at once.
const (
	moreGoroutines = 6
	moreFiles      = 6
	moreHeap       = 3 << 20
)

// usage is what must not grow. Differences count, so that the gateway's ballast is no matter.
type usage struct {
	goroutines, files int
	heap              uint64
}

func measure(t *testing.T) usage {
	t.Helper()
	client.CloseIdleConnections()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{goroutines: runtime.NumGoroutine(), files: len(files), heap: m.HeapAlloc}
}

// TestE2ELeak reloads a plan 200 times and takes the brokers away, for a moment several times and then for longer, and compares goroutines,
// files and memory.
func TestE2ELeak(t *testing.T) {
	js, st, kafka := servers.JetStream(t), servers.NATSStreaming(t), servers.Kafka(t)
	kafka.CreateTopic("leak", 1)
	s := newSink(t)
	ctx, cancel := context.WithCancel(logging.WithLogger(t.Context(), zap.NewNop().Sugar()))
	g, err := gateway.New(ctx, gateway.Options{
		Listen: "127.0.0.1:0", Instance: "leak", DataDir: t.TempDir(),
		Embedded: func(_, dir string, sync time.Duration) (gateway.Server, error) {
			return embedded.Start(embedded.Options{Dir: dir, SyncInterval: sync})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	full := leakPlan(js.URL(), st.URL(), kafka.Addr(), s.URL)
	apply := func(p *plan.Plan) {
		t.Helper()
		if err := g.Apply(p); err != nil {
			t.Fatal(err)
		}
	}
	pass := func(what string) {
		t.Helper()
		eventually(t, 60*time.Second, what+": ready", g.Ready)
		for _, es := range []string{"js", "st", "em"} {
			id := fmt.Sprintf("%s-%s-%d", what, es, time.Now().UnixNano())
			publish(t, func() string { return "http://" + g.Addr() + "/default/" + es + "/e" }, id, []byte(`{}`))
			eventually(t, 60*time.Second, what+": "+id+" arrives", func() error {
				if s.ids()[id] == 0 {
					return fmt.Errorf("not yet; ready: %v", g.Ready())
				}
				return nil
			})
		}
	}
	settled := func(what string, before usage) {
		t.Helper()
		var after usage
		// A connection to the sink that many deliveries at once needed is closed after a minute.
		eventually(t, 150*time.Second, what+" leaves nothing behind", func() error {
			after = measure(t)
			if after.goroutines > before.goroutines+moreGoroutines || after.files > before.files+moreFiles || after.heap > before.heap+moreHeap {
				time.Sleep(200 * time.Millisecond)
				return fmt.Errorf("before %+v, after %+v", before, after)
			}
			return nil
		})
		t.Logf("%s: before %+v, after %+v", what, before, after)
	}
	kill := func() {
		js.Kill()
		st.Kill()
		kafka.Kill()
	}
	start := func() {
		js.Start()
		st.Start()
		kafka.Start()
	}
	outage := func(what string) {
		t.Helper()
		kill()
		eventually(t, 60*time.Second, "the outage is noticed", func() error {
			if g.Ready() == nil {
				return errors.New("ready")
			}
			return nil
		})
		start()
		pass(what)
	}
	apply(full)
	pass("first")
	apply(changed(full, 1)) // so that what is made once, is
	pass("second")
	outage("third") // so that what is opened once more, is
	before := measure(t)

	for i := range 200 {
		apply(changed(full, i))
		if i%50 == 49 {
			pass(fmt.Sprintf("reload %d", i+1))
		}
	}
	settled("200 reloads", before)

	// More of them than anything may grow, so that what each leaves behind shows.
	for i := range moreGoroutines + 2 {
		outage(fmt.Sprintf("outage %d", i+1))
	}
	settled("short outages", before)

	kill()
	time.Sleep(10 * time.Second)
	settled("10 seconds without brokers", before)
	start()
	pass("after the outage")
	settled("the outage", before)

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// changed returns p with the delivery of every other subscriber different by i, so that half of the parts restart and half do not.
func changed(p *plan.Plan, i int) *plan.Plan {
	out := *p
	out.Subscribers = append([]plan.Subscriber(nil), p.Subscribers...)
	for k := range out.Subscribers {
		if k%2 == 0 {
			out.Subscribers[k].Delivery.Retry = 3 + i%2
		}
	}
	return &out
}

func leakPlan(js, st, kafka, sink string) *plan.Plan {
	p := &plan.Plan{Buses: []plan.Bus{
		{Name: "em", Embedded: &plan.Embedded{SyncInterval: time.Second}},
		{Name: "js", JetStream: &plan.JetStream{URL: js, Replicas: 1, AckWait: 5 * time.Second, MaxInFlight: 64}},
		{Name: "st", NATSStreaming: &plan.NATSStreaming{
			URL: strings.Split(st, ",")[0], ClusterID: "stan", Queue: true, Durable: "openfunction", AckWait: 5 * time.Second, MaxInFlight: 64, StartAt: "new",
		}},
	}}
	target := &plan.Target{Name: "sink", URL: sink}
	delivery := plan.Delivery{Retry: 3, Timeout: 5 * time.Second, BackoffDelay: 100 * time.Millisecond}
	for _, bus := range []string{"em", "js", "st"} {
		schedule := "@every 1s"
		if bus != "em" {
			schedule = "@every 1h" // ticks that wait for a broker that is away are no leak
		}
		topic := plan.Topic("default", bus, "e")
		p.Sources = append(p.Sources,
			plan.Source{Namespace: "default", EventSource: bus, Event: "e", Kind: "http", Bus: bus, Topic: topic, HTTP: &plan.HTTP{MaxBodyBytes: 1 << 20}},
			plan.Source{Namespace: "default", EventSource: bus, Event: "tick", Kind: "cron", Bus: bus, Topic: plan.Topic("default", bus, "tick"),
				Cron: &plan.Cron{Schedule: schedule, TimeZone: "UTC"}},
			plan.Source{Namespace: "default", EventSource: bus, Event: "k", Kind: "kafka", Bus: bus, Topic: plan.Topic("default", bus, "k"),
				Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: []string{kafka}}, Topic: "leak", ConsumerGroup: "leak-" + bus}},
		)
		for i := range 4 {
			p.Subscribers = append(p.Subscribers, plan.Subscriber{
				ID: fmt.Sprintf("leak_%s_%d", bus, i), Trigger: "default/t", Bus: bus, Window: time.Minute, Match: v1alpha1.MatchOnce,
				Inputs:    []plan.Input{{Name: "e", Topic: topic}, {Name: "tick", Topic: plan.Topic("default", bus, "tick")}},
				Condition: []string{"e", "e && tick"}[i/2], Sink: target, DeadLetterTopic: plan.DeadLetterTopic("default", "t"), Delivery: delivery,
			})
		}
	}
	return p
}
