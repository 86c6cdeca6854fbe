//go:build e2e

package cluster

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/stan.go"
	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// TestE2ESamples applies the samples as they are, one after the other, and sends events through them.
func TestE2ESamples(t *testing.T) {
	i := install(t)
	kafka, nats := i.brokers()
	kafka.CreateTopic("sample", 1)
	i.defineKnative()
	s := newSink(t)
	i.knativeService("default", sampleSink, s.URL)

	t.Run("1 a source with a sink", func(t *testing.T) {
		i.Kubectl("apply", "-f", "../../config/samples/sample-1-sink.yaml")
		i.ready(time.Minute, "es/my-eventsource")
		i.shows("es", `my-eventsource +`+sampleSink+` +Running +2/2 +1/1`)
		i.Kubectl("get", "deployment", "eventsource-my-eventsource-kafka-sample-one")
		i.flows(kafka, s, 20)
		i.Kubectl("delete", "-f", "../../config/samples/sample-1-sink.yaml")
		i.gone("deployment/eventsource-my-eventsource-kafka-sample-one")
	})
	metrics := topic(t, nats, "metrics")
	t.Run("2 a bus and a trigger", func(t *testing.T) {
		i.Kubectl("apply", "-f", "../../config/samples/sample-2-bus-and-trigger.yaml")
		i.ready(time.Minute, "es/my-eventsource", "tg/my-trigger", "eb/default")
		i.shows("es", `my-eventsource +default +Running +2/2 +1/1`)
		i.shows("tg", `my-trigger +default +Running +2/2 +1/1`)
		i.Kubectl("get", "deployment", "eventsource-my-eventsource-kafka-sample-two", "trigger-my-trigger")
		bodies := i.flows(kafka, s, 20)
		i.eventually(60*time.Second, "topic metrics", func() error { return metrics.missing(bodies...) })
		i.counts("trigger-my-trigger", `openfunction_deliveries_total{kind="Trigger",name="my-trigger",namespace="default",target="topic metrics"} 20`)
	})
	t.Run("4 a cluster's bus in place of the namespace's", func(t *testing.T) {
		_, err := i.Try("delete", "eb", "default", "--timeout=20s")
		if err := says(err, "is used by EventSource default/my-eventsource"); err != nil {
			t.Error(err)
		}
		i.Kubectl("annotate", "eb", "default", "events.openfunction.io/force-delete=true")
		i.Kubectl("delete", "eb", "default", "--timeout=20s")
		i.eventually(30*time.Second, "the Trigger without its bus", func() error {
			out, err := i.Try("get", "tg", "my-trigger", "-o", `jsonpath={.status.state} {.status.conditions[?(@.type=="Ready")].reason}`)
			if err == nil && out != "Error BusNotFound" {
				err = fmt.Errorf("its status is %s", out)
			}
			return err
		})
		i.flows(kafka, s, 20) // what runs goes on
		i.Kubectl("apply", "-f", "../../config/samples/sample-4-clustereventbus.yaml")
		took := i.ready(30*time.Second, "es/my-eventsource", "tg/my-trigger", "ceb/default")
		t.Logf("ready %s after the ClusterEventBus", took.Round(time.Millisecond))
		bodies := i.flows(kafka, s, 20)
		i.eventually(60*time.Second, "topic metrics", func() error { return metrics.missing(bodies...) })
		i.Kubectl("delete", "-f", "../../config/samples/sample-2-bus-and-trigger.yaml", "--ignore-not-found")
		i.gone("deployment/trigger-my-trigger", "deployment/eventsource-my-eventsource-kafka-sample-two")
	})
	t.Run("3 several sources", func(t *testing.T) {
		i.knativeService("default", "function-sample-serving-x6qjw-ksvc-x72j7", s.URL)
		i.Kubectl("apply", "-f", "../../config/samples/sample-3-multi.yaml")
		i.ready(time.Minute, "es/my-eventsource")
		i.shows("es", `my-eventsource +function-sample-serving-x6qjw-ksvc-x72j7 +Running +3/3 +2/2`)
		i.flows(kafka, s, 5)
		before := len(s.received())
		i.eventually(30*time.Second, "two ticks", func() error {
			ticks := map[string]bool{}
			for _, e := range s.received()[before:] {
				if e.typ == "io.openfunction.events.cron" {
					ticks[e.id] = true
				}
			}
			if len(ticks) < 2 {
				return fmt.Errorf("%d ticks", len(ticks))
			}
			return nil
		})
		i.Kubectl("delete", "-f", "../../config/samples/sample-3-multi.yaml")
	})
	t.Run("5 conditions", func(t *testing.T) {
		i.Kubectl("apply", "-f", "../../config/samples/sample-5-conditions.yaml")
		i.ready(time.Minute, "es/eventsource-a", "es/eventsource-b", "tg/condition-trigger")
		i.shows("es", `eventsource-a +default +Running +2/2 +1/1`)
		i.shows("tg", `condition-trigger +default +Running +2/2 +1/1`)
		before, told := len(s.received()), len(metrics.received())
		ticks := func(n int) {
			i.eventually(30*time.Second, fmt.Sprintf("tick %d", n), func() error {
				ticks := s.received()[before:]
				for _, e := range ticks {
					if e.typ != "io.openfunction.events.cron" {
						t.Fatalf("the sink of eventB got %+v", e)
					}
				}
				if len(ticks) < n {
					return fmt.Errorf("%d ticks", len(ticks))
				}
				return nil
			})
		}
		ticks(2)
		if got := metrics.received()[told:]; len(got) > 0 {
			t.Fatalf("metrics got %+v from eventB alone", got)
		}
		body := unique()
		kafka.Produce(servers.KafkaRecord("sample", "", body)) // eventB has arrived: it completes the match
		i.eventually(30*time.Second, "a match", func() error {
			if len(metrics.received()) == told {
				return errors.New("none")
			}
			return nil
		})
		ticks(len(s.received()) - before + 2) // nothing is left for them
		if got := metrics.received()[told:]; len(got) != 1 || got[0].body != body {
			t.Errorf("metrics got %+v, want the one match %s", got, body)
		}
		i.Kubectl("delete", "-f", "../../config/samples/sample-5-conditions.yaml")
	})
	t.Run("1 and 2 with Redis in place of Kafka", func(t *testing.T) {
		server := servers.Redis(t)
		i.forwardService("redis", "redis", "6379", server.Addr())
		flows := func() []string {
			var bodies []string
			for range 20 {
				bodies = append(bodies, unique())
				if err := server.Client().XAdd(t.Context(), &redis.XAddArgs{Stream: "sample", Values: []string{"data", bodies[len(bodies)-1]}}).Err(); err != nil {
					t.Fatal(err)
				}
			}
			i.eventually(30*time.Second, "events at the sink", func() error { return s.missing(bodies...) })
			return bodies
		}
		i.Apply(inRedis(t, "sample-1-sink.yaml"))
		i.ready(time.Minute, "es/my-eventsource")
		i.shows("es", `my-eventsource +`+sampleSink+` +Running +2/2 +1/1`)
		flows()
		i.Kubectl("delete", "es", "my-eventsource")
		i.gone("deployment/eventsource-my-eventsource-redis-sample-one")
		i.Apply(inRedis(t, "sample-2-bus-and-trigger.yaml"))
		i.ready(time.Minute, "es/my-eventsource", "tg/my-trigger")
		i.shows("es", `my-eventsource +default +Running +2/2 +1/1`)
		bodies := flows()
		i.eventually(60*time.Second, "topic metrics", func() error { return metrics.missing(bodies...) })
		i.Kubectl("delete", "es/my-eventsource", "tg/my-trigger")
	})
}

// inRedis returns a sample whose Kafka events are entries of a Redis stream.
func inRedis(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../config/samples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("  kafka:\n", "  redis:\n", "brokers: dapr-kafka.kafka:9092", "redisHost: redis.redis:6379", " topic: sample\n", " stream: sample\n",
		"      authRequired: false\n", "").Replace(string(text))
}

// shows wants a line like that in what kubectl get prints.
func (i *installation) shows(kind, line string) {
	i.t.Helper()
	i.eventually(30*time.Second, "kubectl get "+kind, func() error {
		out, err := i.Try("get", kind)
		if err == nil && !regexp.MustCompile(`(?m)^`+line+` `).MatchString(out) {
			err = fmt.Errorf("%q does not match\n%s", line, out)
		}
		return err
	})
}

// gone waits until there are no such objects.
func (i *installation) gone(objects ...string) {
	i.t.Helper()
	i.eventually(time.Minute, "deletion", func() error {
		out, err := i.Try(append([]string{"get", "--ignore-not-found", "-o", "name"}, objects...)...)
		if err == nil && out != "" {
			err = fmt.Errorf("there still is %s", out)
		}
		return err
	})
}

var counter struct {
	sync.Mutex
	n int
}

// unique is a payload that no other test sends.
func unique() string {
	counter.Lock()
	defer counter.Unlock()
	counter.n++
	return fmt.Sprintf(`{"order":"%d-%d"}`, time.Now().UnixNano(), counter.n)
}

// flows sends n records to the samples' topic and waits until all have arrived at the sink.
func (i *installation) flows(kafka *servers.KafkaServer, s *sink, n int) []string {
	i.t.Helper()
	var bodies []string
	for range n {
		bodies = append(bodies, unique())
		kafka.Produce(servers.KafkaRecord("sample", "", bodies[len(bodies)-1]))
	}
	i.eventually(30*time.Second, "events at the sink", func() error { return s.missing(bodies...) })
	return bodies
}

// topic reads a topic of NATS Streaming as the seed's function does.
func topic(t *testing.T, nats *servers.NATSStreamingServer, name string) *sink {
	t.Helper()
	conn, err := stan.Connect("stan", fmt.Sprintf("function-%d", time.Now().UnixNano()), stan.NatsURL(nats.URL()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &sink{}
	_, err = conn.QueueSubscribe(name, "function", func(m *stan.Msg) {
		e, err := event.ParseStructured(m.Data)
		if err != nil {
			t.Errorf("message on %s %q: %v", name, strings.ToValidUTF8(string(m.Data), "?"), err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, received{e.ID(), e.Type(), string(e.Data())})
	}, stan.DurableName("function"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counts waits until the metrics of a workload's pod have a line.
func (i *installation) counts(workload, line string) {
	i.t.Helper()
	pod := i.Kubectl("get", "pod", "-l", "events.openfunction.io/workload="+workload, "-o", "jsonpath={.items[0].metadata.name}")
	address := i.Kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}") + ":9090"
	if !i.Ours() {
		address = i.Forward("default", pod, 9090)
	}
	i.eventually(60*time.Second, "metrics of "+workload, func() error {
		response, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		all, err := io.ReadAll(response.Body)
		if err == nil && !slices.Contains(strings.Split(string(all), "\n"), line) {
			err = fmt.Errorf("want %s in\n%s", line, all)
		}
		return err
	})
}
