//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// TestE2EGarbage puts bytes that are no event on an event's topic: they become dead letters, and events behind them go on.
func TestE2EGarbage(t *testing.T) {
	js, st := servers.JetStream(t), servers.NATSStreaming(t)
	for _, tt := range []struct {
		name, yaml string
		publish    func(t *testing.T, topic string, data []byte)
	}{
		{"jetStream", fmt.Sprintf("jetStream: {url: %q}", js.URL()), func(t *testing.T, topic string, data []byte) {
			nc, err := nats.Connect(js.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Request(topic, data, 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}},
		{"nats streaming", fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan}", st.URL()), func(t *testing.T, topic string, data []byte) {
			sc, err := stan.Connect("stan", "garbage", stan.NatsURL(st.URL()))
			if err != nil {
				t.Fatal(err)
			}
			defer sc.Close()
			if err := sc.Publish(topic, data); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSink(t)
			p := run(t, "-f", write(t, "path.yaml", path(tt.yaml, "garbage")), "--sink", "default/each="+s.URL)
			garbage := [][]byte{[]byte("\x00\xff not an event"), []byte(`{"specversion":"1.0"}`), []byte(`{`), {0}, []byte(strings.Repeat("x", 100<<10))}
			for _, data := range garbage {
				tt.publish(t, "openfunction.default.garbage.a", data)
			}
			publish(t, func() string { return p.url + "/default/garbage/a" }, "good", []byte(`{}`))
			eventually(t, 60*time.Second, "the event behind the garbage", func() error {
				if s.ids()["good"] == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			// Two subscribers listen to the topic; each has its own dead letters.
			eventually(t, 60*time.Second, "dead letters", func() error {
				if got, want := len(p.deliveries("deadletter topic openfunction.default.trigger.garbage.deadletter")), 2*len(garbage); got < want {
					return fmt.Errorf("%d of %d", got, want)
				}
				return nil
			})
			letter, err := event.ParseStructured(p.deliveries("deadletter topic openfunction.default.trigger.garbage.deadletter")[0].Event)
			if err != nil || letter.Type() != "io.openfunction.events.malformed" || letter.Extensions()["knativeerrordata"] == nil {
				t.Errorf("dead letter %v: %v", letter, err)
			}
		})
	}
}
