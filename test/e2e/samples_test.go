//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/nats-io/stan.go"
	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// world is where the samples' addresses lead.
type world struct {
	args []string
	// kind of the events that are produced. The samples say kafka; file rewrites them where that is not it.
	kind    string
	file    func(t *testing.T, name string) string
	produce func(t *testing.T, p *process, values ...string)
	nats    func(p *process) string
}

func asTheyAre(_ *testing.T, name string) string { return samples + name }

// inRedis writes a sample whose Kafka events are entries of a Redis stream.
func inRedis(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(samples + name)
	if err != nil {
		t.Fatal(err)
	}
	redis := strings.NewReplacer("  kafka:\n", "  redis:\n", "brokers: dapr-kafka.kafka:9092", "redisHost: redis.redis:6379", " topic: sample\n", " stream: sample\n", "      authRequired: false\n", "")
	return write(t, name, redis.Replace(string(text)))
}

func toKafka(address func(p *process) string) func(*testing.T, *process, ...string) {
	return func(t *testing.T, p *process, values ...string) {
		t.Helper()
		produce(t, address(p), values...)
	}
}

func toRedis(address func(p *process) string) func(*testing.T, *process, ...string) {
	return func(t *testing.T, p *process, values ...string) {
		t.Helper()
		client := redis.NewClient(&redis.Options{Addr: address(p)})
		defer client.Close()
		for _, v := range values {
			if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "sample", Values: []string{"data", v}}).Err(); err != nil {
				t.Fatalf("add %q: %v", v, err)
			}
		}
	}
}

func worlds(t *testing.T) map[string]world {
	return map[string]world{
		"real servers": func() world {
			kafka, nats := servers.Kafka(t), servers.NATSStreaming(t)
			address := strings.TrimPrefix(nats.URL(), "nats://")
			return world{
				args:    []string{"--address", "dapr-kafka.kafka:9092=" + kafka.Addr(), "--address", "nats.default:4222=" + address},
				kind:    "kafka",
				file:    asTheyAre,
				produce: toKafka(func(*process) string { return kafka.Addr() }),
				nats:    func(*process) string { return address },
			}
		}(),
		"embedded": {
			args:    []string{"--embedded"},
			kind:    "kafka",
			file:    asTheyAre,
			produce: toKafka(func(p *process) string { return p.find(`stands for dapr-kafka\.kafka:9092 at (\S+)`) }),
			nats:    embeddedNATS,
		},
		"real redis": func() world {
			server, nats := servers.Redis(t), servers.NATSStreaming(t)
			address := strings.TrimPrefix(nats.URL(), "nats://")
			return world{
				args:    []string{"--address", "redis.redis:6379=" + server.Addr(), "--address", "nats.default:4222=" + address},
				kind:    "redis",
				file:    inRedis,
				produce: toRedis(func(*process) string { return server.Addr() }),
				nats:    func(*process) string { return address },
			}
		}(),
		"embedded redis": {
			args:    []string{"--embedded"},
			kind:    "redis",
			file:    inRedis,
			produce: toRedis(func(p *process) string { return p.find(`stands for redis\.redis:6379 at (\S+)`) }),
			nats:    embeddedNATS,
		},
	}
}

func embeddedNATS(p *process) string { return p.find(`stands for nats\.default:4222 at (\S+)`) }

// produce sends values to the samples' topic.
func produce(t *testing.T, broker string, values ...string) {
	t.Helper()
	c := sarama.NewConfig()
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Retry.Max = 20
	producer, err := sarama.NewSyncProducer([]string{broker}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, v := range values {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "sample", Value: sarama.StringEncoder(v)}); err != nil {
			t.Fatalf("produce %q: %v", v, err)
		}
	}
}

// metrics subscribes to the topic as the samples' function does, with a plain queue subscription.
func metrics(t *testing.T, address string) func() []*event.Event {
	t.Helper()
	conn, err := stan.Connect("stan", fmt.Sprintf("function-%d", time.Now().UnixNano()), stan.NatsURL("nats://"+address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var mu sync.Mutex
	var got []*event.Event
	_, err = conn.QueueSubscribe("metrics", fmt.Sprintf("grp%d", time.Now().UnixNano()), func(m *stan.Msg) {
		e, err := event.ParseStructured(m.Data)
		if err != nil {
			t.Errorf("message on metrics %q: %v", m.Data, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, e)
	}, stan.DurableName("ImDurable"))
	if err != nil {
		t.Fatal(err)
	}
	return func() []*event.Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]*event.Event(nil), got...)
	}
}

func bodies(events []*event.Event) (out []string) {
	for _, e := range events {
		out = append(out, string(e.Data()))
	}
	return out
}

// unique makes values that no other test has sent to the shared topic.
func unique(prefix string) string {
	return fmt.Sprintf(`{"data":{"orderId":%q,"message":"Hi"},"operation":"create"}`, fmt.Sprint(prefix, "-", time.Now().UnixNano()))
}

func wantBodies(t *testing.T, within time.Duration, what string, got func() []*event.Event, want ...string) {
	t.Helper()
	eventually(t, within, what, func() error {
		have := map[string]bool{}
		for _, b := range bodies(got()) {
			have[b] = true
		}
		for _, w := range want {
			if !have[w] {
				return fmt.Errorf("%s is missing from %d events", w, len(have))
			}
		}
		return nil
	})
}

const function = "default/function-sample-serving-qrdx8-ksvc-fwml8"

func TestE2ESamples(t *testing.T) {
	t.Parallel()
	for name, w := range worlds(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // ticks are five seconds apart
			t.Run("1 kafka to a sink", func(t *testing.T) { sample1(t, w) })
			t.Run("2 kafka to a bus to a sink and a topic", func(t *testing.T) { sample2(t, w, w.file(t, "sample-2-bus-and-trigger.yaml")) })
			t.Run("3 kafka and cron to a sink", func(t *testing.T) { sample3(t, w) })
			t.Run("4 a cluster bus in place of the bus", func(t *testing.T) {
				text, err := os.ReadFile(w.file(t, "sample-2-bus-and-trigger.yaml"))
				if err != nil {
					t.Fatal(err)
				}
				_, rest, found := strings.Cut(string(text), "\n---\n")
				if !found || !strings.Contains(rest, "kind: Trigger") {
					t.Fatal("sample 2 has changed its shape")
				}
				sample2(t, w, write(t, "rest.yaml", rest), samples+"sample-4-clustereventbus.yaml")
			})
			t.Run("5 conditions", func(t *testing.T) { sample5(t, w) })
		})
	}
}

func sample1(t *testing.T, w world) {
	s := newSink(t)
	p := run(t, append(w.args, "-f", w.file(t, "sample-1-sink.yaml"), "--sink", function+"="+s.URL)...)
	values := []string{unique("one"), unique("two"), unique("three")}
	w.produce(t, p, values...)
	wantBodies(t, 90*time.Second, "the sink", s.received, values...)
	for _, e := range s.received() {
		if e.Type() != "io.openfunction.events."+w.kind || e.Source() != "/namespaces/default/eventsources/my-eventsource/sample-one" {
			t.Errorf("event has type %q and source %q", e.Type(), e.Source())
		}
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

func sample2(t *testing.T, w world, files ...string) {
	s := newSink(t)
	args := append([]string{}, w.args...)
	for _, f := range files {
		args = append(args, "-f", f)
	}
	p := run(t, append(args, "--sink", function+"="+s.URL)...)
	topic := metrics(t, w.nats(p))
	values := []string{unique("a"), unique("b")}
	w.produce(t, p, values...)
	wantBodies(t, 90*time.Second, "the sink", s.received, values...)
	wantBodies(t, 90*time.Second, "the topic metrics", topic, values...)
	eventually(t, 60*time.Second, "the lines for the topic", func() error {
		if got := len(p.deliveries("topic metrics")); got < 2 {
			return fmt.Errorf("%d lines", got)
		}
		return nil
	})
	for _, d := range p.deliveries("topic metrics") {
		if d.Trigger != "default/my-trigger" {
			t.Errorf("line says trigger %q", d.Trigger)
		}
		if _, err := event.ParseStructured(d.Event); err != nil {
			t.Errorf("line's event %s: %v", d.Event, err)
		}
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

func sample3(t *testing.T, w world) {
	s := newSink(t)
	p := run(t, append(w.args, "-f", w.file(t, "sample-3-multi.yaml"), "--sink", "default/function-sample-serving-x6qjw-ksvc-x72j7="+s.URL)...)
	value := unique("three")
	w.produce(t, p, value)
	wantBodies(t, 90*time.Second, "the sink", s.received, value)
	eventually(t, 60*time.Second, "two ticks", func() error {
		ticks := map[string]bool{}
		for _, e := range s.received() {
			if e.Type() == "io.openfunction.events.cron" {
				ticks[e.ID()] = true
			}
		}
		if len(ticks) < 2 {
			return fmt.Errorf("%d ticks", len(ticks))
		}
		return nil
	})
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// sample5 follows the ticks of eventB, five seconds apart, and places its eventA between them. By the rule of matches, each event takes
// part in one match and the arriving one is sent.
func sample5(t *testing.T, w world) {
	s := newSink(t)
	p := run(t, append(w.args, "-f", w.file(t, "sample-5-conditions.yaml"), "-f", samples+"sample-4-clustereventbus.yaml", "--sink", function+"="+s.URL)...)
	topic := metrics(t, w.nats(p))
	wantTopic := func(n int) {
		t.Helper()
		eventually(t, 60*time.Second, fmt.Sprintf("%d matches on metrics", n), func() error {
			if got := topic(); len(got) < n {
				return fmt.Errorf("%q", bodies(got))
			}
			return nil
		})
	}
	tick := func() *event.Event {
		t.Helper()
		before := len(s.received())
		eventually(t, 60*time.Second, "a tick of eventB", func() error {
			if len(s.received()) == before {
				return fmt.Errorf("none after %d", before)
			}
			return nil
		})
		return s.received()[before]
	}
	a1, a2, a3 := unique("a1"), unique("a2"), unique("a3")
	tick()
	w.produce(t, p, a1) // eventB has arrived: a1 completes the match
	wantTopic(1)
	tick() // alone again: the eventA before was used
	w.produce(t, p, a2)
	wantTopic(2)
	w.produce(t, p, a3) // waits for an eventB
	b := tick()
	wantTopic(3)
	tick() // nothing is left for it

	got := topic()
	want := []string{a1, a2, string(b.Data())}
	if g, w := fmt.Sprintf("%q", bodies(got)), fmt.Sprintf("%q", want); g != w {
		t.Errorf("metrics got %s, want %s", g, w)
	}
	if len(got) == 3 && got[2].ID() != b.ID() {
		t.Errorf("the third match is %s, want the tick %s", got[2].ID(), b.ID())
	}
	var last time.Time
	for i, e := range s.received() {
		if e.Type() != "io.openfunction.events.cron" {
			t.Errorf("the sink of eventB got %s of type %s", e.ID(), e.Type())
		}
		// A machine that stands still for longer than a tick costs it, which the program says.
		if apart := e.Time().Sub(last); i > 0 && apart != 5*time.Second && len(p.logged("ticks were missed")) == 0 {
			t.Errorf("tick %s came %s after the one before, want 5s", e.ID(), apart)
		}
		last = e.Time()
	}
	for id, n := range s.ids() {
		if n != 1 {
			t.Errorf("the sink of eventB got tick %s %d times, want once", id, n)
		}
	}
	if lines, _ := json.Marshal(p.deliveries("sink " + function)); len(p.deliveries("sink "+function)) != 0 {
		t.Errorf("a sink with a URL is not the display's: %s", lines)
	}
}
