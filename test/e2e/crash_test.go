//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// broker is a bus, and how to kill what carries it. Without kill it lives in the program itself.
type broker struct {
	yaml  string
	args  []string
	kill  func()
	start func()
}

func brokers(t *testing.T) map[string]broker {
	js, st := servers.JetStream(t), servers.NATSStreaming(t)
	return map[string]broker{
		"embedded":       {yaml: "embedded: {}", args: []string{"--data", t.TempDir()}},
		"jetStream":      {yaml: fmt.Sprintf("jetStream: {url: %q}", js.URL()), kill: js.Kill, start: js.Start},
		"nats streaming": {yaml: fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan, ackWaitTime: 5s}", st.URL()), kill: st.Kill, start: st.Start},
	}
}

// path is an http event that goes over a bus to a sink.
func path(bus, name string) string {
	return fmt.Sprintf(`
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {%s}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: %[2]s}
spec:
  eventBus: default
  http: {a: {}, b: {}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: %[2]s}
spec:
  inputs:
    a: {eventSource: %[2]s, event: a}
    b: {eventSource: %[2]s, event: b}
  subscribers:
  - condition: a
    sink: {ref: {apiVersion: v1, kind: Service, name: each}}
  - condition: a && b
    sink: {ref: {apiVersion: v1, kind: Service, name: joined}}
`, bus, name)
}

// TestE2EKill kills the program, and then the broker, several times while 5,000 events pass, and counts.
func TestE2EKill(t *testing.T) {
	const events, workers = 5000, 32
	for name, b := range brokers(t) {
		for _, victim := range []string{"program", "broker"} {
			if victim == "broker" && b.kill == nil {
				continue
			}
			t.Run(name+" with the "+victim+" killed", func(t *testing.T) {
				s := newSink(t)
				file := write(t, "path.yaml", path(b.yaml, "kill-"+victim))
				args := append([]string{"-f", file, "--sink", "default/each=" + s.URL}, b.args...)
				var url atomic.Value
				p := run(t, args...)
				url.Store(p.url)
				var sent atomic.Int64
				var producers sync.WaitGroup
				for w := range workers {
					producers.Go(func() {
						for i := w; i < events; i += workers {
							publish(t, func() string { return url.Load().(string) + "/default/kill-" + victim + "/a" }, fmt.Sprintf("e%05d", i), []byte(`{}`))
							sent.Add(1)
						}
					})
				}
				for kills := 1; kills <= 3; kills++ {
					eventually(t, 120*time.Second, "progress", func() error {
						if sent.Load() < int64(kills*events/4) {
							return errors.New("too few events were sent")
						}
						return nil
					})
					time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
					if victim == "program" {
						p.kill()
						p = run(t, args...)
						url.Store(p.url)
					} else {
						b.kill()
						b.start()
					}
				}
				producers.Wait()
				eventually(t, 120*time.Second, "every id has arrived", func() error {
					if missing := events - len(s.ids()); missing > 0 {
						return fmt.Errorf("%d of %d ids are missing", missing, events)
					}
					return nil
				})
				t.Logf("%s, %s killed 3 times: %d events, lost 0, duplicates %d", name, victim, events, len(s.received())-events)
			})
		}
	}
}

// TestE2EJoinSurvivesKill kills the program between the two legs of a join.
func TestE2EJoinSurvivesKill(t *testing.T) {
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			joined, each := newSink(t), newSink(t)
			file := write(t, "path.yaml", path(b.yaml, "join"))
			args := append([]string{"-f", file, "--sink", "default/joined=" + joined.URL, "--sink", "default/each=" + each.URL}, b.args...)
			p := run(t, args...)
			publish(t, func() string { return p.url + "/default/join/a" }, "first-leg", []byte(`{"leg":1}`))
			eventually(t, 30*time.Second, "the first leg has passed", func() error {
				if len(each.received()) == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			p.kill()
			p = run(t, args...)
			publish(t, func() string { return p.url + "/default/join/b" }, "second-leg", []byte(`{"leg":2}`))
			eventually(t, 45*time.Second, "the join fires", func() error {
				if len(joined.received()) == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			if got := joined.received()[0]; got.ID() != "second-leg" || string(got.Data()) != `{"leg":2}` {
				t.Errorf("the join sent %s %s, want the second leg", got.ID(), got.Data())
			}
		})
	}
}

// TestE2EBrokerAway looks at what a producer sees while the broker is away, and that events resume by themselves.
func TestE2EBrokerAway(t *testing.T) {
	for name, b := range brokers(t) {
		if b.kill == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b.kill()
			s := newSink(t)
			p := run(t, append([]string{"-f", write(t, "path.yaml", path(b.yaml, "away")), "--sink", "default/each=" + s.URL}, b.args...)...)
			req, _ := http.NewRequest(http.MethodGet, p.url+"/readyz", nil)
			if code, body := do(req); code != http.StatusServiceUnavailable || !strings.Contains(body, "EventBus default/default") {
				t.Errorf("/readyz is %d %q, want 503 that names the bus", code, body)
			}
			resp, err := client.Post(p.url+"/default/away/a", "application/cloudevents+json", strings.NewReader(`{"specversion":"1.0","id":"x","source":"/x","type":"x"}`))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("a publication got %d with Retry-After %q, want 503 with one", resp.StatusCode, resp.Header.Get("Retry-After"))
			}
			time.Sleep(3 * time.Second)
			if n := len(strings.Split(p.log(), "\n")); n > 20 {
				t.Errorf("the log has %d lines after three seconds of outage:\n%s", n, p.log())
			}
			b.start()
			publish(t, func() string { return p.url + "/default/away/a" }, "after", []byte(`{}`))
			eventually(t, 30*time.Second, "the event arrives", func() error {
				if s.ids()["after"] == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			eventually(t, 30*time.Second, "readiness", func() error {
				if code, body := do(req); code != http.StatusOK {
					return fmt.Errorf("%d %s", code, body)
				}
				return nil
			})
		})
	}
}
