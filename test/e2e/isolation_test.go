//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
)

const isolation = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {%s}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es}
spec: {eventBus: default, http: {a: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: isolation}
spec:
  inputs: {a: {eventSource: es, event: a}}
  subscribers:
  - condition: a
    sink: {ref: {apiVersion: v1, kind: Service, name: well}}
  - condition: a
    sink: {ref: {apiVersion: v1, kind: Service, name: hangs}}
    delivery: {timeout: PT5S, retry: 100}
  - condition: a
    sink: {ref: {apiVersion: v1, kind: Service, name: fails}}
    deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: dead}}
    delivery: {retry: 2, backoffDelay: PT0.1S}
  - condition: a
    sink: {ref: {apiVersion: v1, kind: Service, name: refuses}}
    deadLetterTopic: refused
`

// TestE2EIsolation lets the sinks of three subscribers hang and fail for a minute and watches the fourth.
func TestE2EIsolation(t *testing.T) {
	t.Parallel() // with those that look at files twice a second
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a minute of waiting each
			well, hangs, fails, refuses, dead := newSink(t), newSink(t), newSink(t), newSink(t), newSink(t)
			args := []string{"-f", write(t, "isolation.yaml", fmt.Sprintf(isolation, b.yaml))}
			for name, s := range map[string]*sink{"well": well, "hangs": hangs, "fails": fails, "refuses": refuses, "dead": dead} {
				args = append(args, "--sink", "default/"+name+"="+s.URL)
			}
			p := run(t, append(args, b.args...)...)
			url := p.url + "/default/es/a"

			sent := 0
			sentAt := map[string]time.Time{}
			load := func(d time.Duration) []time.Duration {
				from := len(well.received())
				begin := sent
				for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
					id := fmt.Sprintf("e%05d", sent)
					sentAt[id] = time.Now()
					publish(t, func() string { return url }, id, []byte(`{}`))
					sent++
				}
				eventually(t, 30*time.Second, "the healthy sink gets everything", func() error {
					if got := len(well.ids()); got < sent {
						return fmt.Errorf("%d of %d", got, sent)
					}
					return nil
				})
				var latencies []time.Duration
				well.mu.Lock()
				defer well.mu.Unlock()
				for i, e := range well.events[from:] {
					latencies = append(latencies, well.at[from+i].Sub(sentAt[e.ID()]))
				}
				slices.Sort(latencies)
				if len(latencies) < sent-begin {
					t.Fatalf("%d latencies of %d events", len(latencies), sent-begin)
				}
				return latencies
			}
			before := load(10 * time.Second)
			over := make(chan struct{})
			hangs.set(func(http.ResponseWriter, *event.Event) bool {
				select {
				case <-over:
					return true
				case <-time.After(7 * time.Second):
					return false
				}
			})
			fails.set(func(w http.ResponseWriter, _ *event.Event) bool {
				http.Error(w, "out of order", http.StatusInternalServerError)
				return false
			})
			refuses.set(func(w http.ResponseWriter, _ *event.Event) bool {
				http.Error(w, "no thanks", http.StatusUnprocessableEntity)
				return false
			})
			during := load(60 * time.Second)
			close(over)
			hangs.set(nil)
			fails.set(nil)
			refuses.set(nil)

			p50 := func(l []time.Duration) time.Duration { return l[len(l)/2] }
			p99 := func(l []time.Duration) time.Duration { return l[len(l)*99/100] }
			t.Logf("%s: latency of the healthy subscriber before p50 %v p99 %v, during p50 %v p99 %v", name, p50(before), p99(before), p50(during), p99(during))
			// Whoever waits for what hangs waits for five seconds.
			if p50(during) > 4*p50(before)+25*time.Millisecond || p99(during) > 2*time.Second {
				t.Errorf("the healthy subscriber's latency went from %v (p50), %v (p99) to %v, %v", p50(before), p99(before), p50(during), p99(during))
			}
			eventually(t, 120*time.Second, "what hung is delivered", func() error {
				if got := len(hangs.ids()); got < sent {
					return fmt.Errorf("%d of %d", got, sent)
				}
				return nil
			})
			eventually(t, 60*time.Second, "what failed is delivered or dead-lettered", func() error {
				letters, delivered := dead.ids(), fails.ids()
				for i := range sent {
					if id := fmt.Sprintf("e%05d", i); letters[id]+delivered[id] == 0 {
						return fmt.Errorf("%s is neither", id)
					}
				}
				return nil
			})
			if len(dead.received()) == 0 {
				t.Fatal("nothing was dead-lettered")
			}
			for _, e := range dead.received() {
				x := e.Extensions()
				if x["knativeerrordest"] != fails.URL || x["knativeerrorcode"] != "500" || x["knativeerrordata"] != "b3V0IG9mIG9yZGVyCg==" {
					t.Fatalf("dead letter %s has %v", e.ID(), x)
				}
			}
			refused := map[string]bool{}
			eventually(t, 60*time.Second, "what was refused is delivered or on the dead letter topic", func() error {
				letters := p.deliveries("deadletter topic refused")
				for _, d := range letters {
					e, err := event.ParseStructured(d.Event)
					if err != nil {
						t.Fatalf("dead letter %s: %v", d.Event, err)
					}
					refused[e.ID()] = true
				}
				delivered := refuses.ids()
				for i := range sent {
					if id := fmt.Sprintf("e%05d", i); !refused[id] && delivered[id] == 0 {
						return fmt.Errorf("%s is neither", id)
					}
				}
				return nil
			})
			if len(refused) == 0 {
				t.Fatal("nothing on the dead letter topic")
			}
			for _, d := range p.deliveries("deadletter topic refused") {
				e, err := event.ParseStructured(d.Event)
				if err != nil {
					t.Fatalf("dead letter %s: %v", d.Event, err)
				}
				if x := e.Extensions(); x["knativeerrordest"] != refuses.URL || x["knativeerrorcode"] != "422" || x["knativeerrordata"] != "bm8gdGhhbmtzCg==" {
					t.Fatalf("dead letter %s on the topic has %v", e.ID(), x)
				}
			}
		})
	}
}
