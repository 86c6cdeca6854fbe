//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/test/servers"
)

// TestE2EASecondTriggerIsRefused adds a Trigger that the bus does not want, with an input of the first one's. The first one goes on, and the second
// begins when somebody has made room.
func TestE2EASecondTriggerIsRefused(t *testing.T) {
	for name, on := range map[string]func(t *testing.T) (bus string, refuse, cure func()){
		"jetStream": refusingJetStream, "natsStreaming": refusingNATSStreaming, "kafka": refusingKafka,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			bus, refuse, cure := on(t)
			first, second := newSink(t), newSink(t)
			file := write(t, "path.yaml", triggers(bus, "t1: a"))
			p := run(t, "-f", file, "--sink", "default/t1="+first.URL, "--sink", "default/t2="+second.URL)
			url := func() string { return p.url + "/default/good/a" }
			publish(t, url, "before", []byte(`{}`))
			refuse()
			if err := os.WriteFile(file, []byte(triggers(bus, "t1: a", "t2: a b c")), 0o644); err != nil {
				t.Fatal(err)
			}
			const refused = "subscription cannot be set up"
			eventually(t, 60*time.Second, "the log says what is refused", func() error {
				if len(p.logged(refused)) == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			if code, body := post(url(), "waits", "application/json", []byte(`{}`)); code != http.StatusAccepted &&
				(code != http.StatusServiceUnavailable || !strings.Contains(body, "Trigger default/t2")) {
				t.Errorf("status %d %q, want 503 that names the Trigger", code, body)
			}
			publish(t, url, "meanwhile", []byte(`{}`))
			arrives(t, first, "meanwhile")
			lines := p.logged(refused)
			if len(lines) != 1 || !strings.Contains(lines[0], "default_t2_") || !strings.Contains(lines[0], "EventBus default/default") {
				t.Errorf("the log says of the refusal %q, want one line that names subscription and bus", lines)
			}
			cure()
			eventually(t, 60*time.Second, "the second subscription", func() error {
				if n := len(p.logged("subscription receives now")); n != 1 {
					return fmt.Errorf("said %d times, want once", n)
				}
				return nil
			})
			publish(t, url, "after", []byte(`{}`))
			arrives(t, first, "after")
			arrives(t, second, "after")
		})
	}
}

func arrives(t *testing.T, s *sink, id string) {
	t.Helper()
	eventually(t, 60*time.Second, id+" arrives", func() error {
		if s.ids()[id] == 0 {
			return errors.New("not yet")
		}
		return nil
	})
}

// triggers has Triggers, as "name: event event", each with a sink of its name.
func triggers(bus string, all ...string) string {
	text := fmt.Sprintf(`apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {%s}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: good}
spec: {eventBus: default, http: {a: {}, b: {}, c: {}}}
`, bus)
	for _, one := range all {
		name, events, _ := strings.Cut(one, ": ")
		var inputs []string
		for _, e := range strings.Fields(events) {
			inputs = append(inputs, fmt.Sprintf("%s: {eventSource: good, event: %s}", e, e))
		}
		text += fmt.Sprintf(`---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: %s}
spec:
  eventBus: default
  inputs: {%s}
  subscribers:
  - condition: %s
    sink: {ref: {apiVersion: v1, kind: Service, name: %s}}
`, name, strings.Join(inputs, ", "), strings.ReplaceAll(events, " ", " || "), name)
	}
	return text
}

// refusingJetStream has an account with a bound on the consumers of a stream, which somebody else's makes full.
func refusingJetStream(t *testing.T) (bus string, refuse, cure func()) {
	s := servers.JetStream(t, "accounts { A { jetstream: { max_consumers: 2 }, users: [ { user: u, password: p } ] } }", "no_auth_user: u")
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	refuse = func() {
		notNew(t, s.URL())
		if _, err := js.CreateConsumer(t.Context(), "openfunction-events", jetstream.ConsumerConfig{Durable: "theirs"}); err != nil {
			t.Fatal(err)
		}
	}
	cure = func() {
		if err := js.DeleteConsumer(t.Context(), "openfunction-events", "theirs"); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("jetStream: {url: %q}", s.URL()), refuse, cure
}

// refusingNATSStreaming has a bound on channels.
func refusingNATSStreaming(t *testing.T) (bus string, refuse, cure func()) {
	s := servers.NATSStreaming(t, "store_limits { max_channels: 2 }")
	cure = func() {
		s.Kill()
		s.Configure()
		s.Start()
	}
	return fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan, ackWaitTime: 2s}", s.URL()), func() {}, cure
}

// refusingKafka has fewer brokers than the bus wants replicas, and a topic from before.
func refusingKafka(t *testing.T) (bus string, refuse, cure func()) {
	s := servers.Kafka(t)
	topic := func(e string) { s.CreateTopic("openfunction.default.good."+e, 1) }
	topic("a")
	cure = func() { topic("b"); topic("c") }
	return fmt.Sprintf("kafka: {brokers: %q, replicationFactor: 3}", s.Addr()), func() {}, cure
}
