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
	js, st, kafka := servers.JetStream(t), servers.NATSStreaming(t), servers.Kafka(t)
	return map[string]broker{
		"embedded":       {yaml: "embedded: {}", args: []string{"--data", t.TempDir()}},
		"jetStream":      {yaml: fmt.Sprintf("jetStream: {url: %q}", js.URL()), kill: js.Kill, start: js.Start},
		"nats streaming": {yaml: fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan, ackWaitTime: 5s}", st.URL()), kill: st.Kill, start: st.Start},
		"kafka":          {yaml: fmt.Sprintf("kafka: {brokers: %q}", kafka.Addr()), kill: kafka.Kill, start: kafka.Start},
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
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // Kafka misses a member that was killed for ten seconds
			for _, victim := range []string{"program", "broker"} {
				if victim == "broker" && b.kill == nil {
					continue
				}
				t.Run("the "+victim+" killed", func(t *testing.T) { killed(t, b, victim) })
			}
		})
	}
}

// killed sends events over b while the victim is killed three times.
func killed(t *testing.T, b broker, victim string) {
	const events, workers = 5000, 32
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
	t.Logf("%s three times: %d events, lost 0, duplicates %d", t.Name(), events, len(s.received())-events)
}

// TestE2EJoinSurvivesKill kills the program between the two legs of a join.
func TestE2EJoinSurvivesKill(t *testing.T) {
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			joined, each := newSink(t), newSink(t)
			file := write(t, "path.yaml", path(b.yaml, "join"))
			args := append([]string{"-f", file, "--sink", "default/joined=" + joined.URL, "--sink", "default/each=" + each.URL}, b.args...)
			p := run(t, args...)
			publish(t, func() string { return p.url + "/default/join/a" }, "first-leg", []byte(`{"leg":1}`))
			eventually(t, 60*time.Second, "the first leg has passed", func() error {
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

// TestE2EBrokerAway looks at what a producer sees while the broker is away, at the start and later, and that events resume by themselves.
func TestE2EBrokerAway(t *testing.T) {
	for name, b := range brokers(t) {
		if b.kill == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.kill()
			s := newSink(t)
			p := run(t, append([]string{"-f", write(t, "path.yaml", path(b.yaml, "away")), "--sink", "default/each=" + s.URL}, b.args...)...)
			ready, _ := http.NewRequest(http.MethodGet, p.url+"/readyz", nil)
			for outage := 1; outage <= 2; outage++ {
				before := len(p.logged(""))
				if outage > 1 {
					b.kill()
				}
				away(t, p, ready)
				// That was long enough for several attempts to connect, which must not be said.
				if lines := p.logged("")[before:]; outage > 1 && len(lines) > mostLines {
					t.Errorf("outage %d is worth %d lines, want at most %d:\n%s", outage, len(lines), mostLines, strings.Join(lines, "\n"))
				}
				b.start()
				back := time.Now()
				id := fmt.Sprintf("after-%d", outage)
				publish(t, func() string { return p.url + "/default/away/a" }, id, []byte(`{}`))
				taken := time.Since(back)
				eventually(t, 60*time.Second, "the event arrives", func() error {
					if s.ids()[id] == 0 {
						return errors.New("not yet")
					}
					return nil
				})
				eventually(t, 60*time.Second, "readiness", func() error {
					if code, body := do(ready); code != http.StatusOK {
						return fmt.Errorf("%d %s", code, body)
					}
					return nil
				})
				t.Logf("%s, outage %d: an event is taken %s after the broker's return, and all is ready after %s", name, outage, taken, time.Since(back))
				if lines := p.logged("bus is away"); len(lines) != outage {
					t.Errorf("after outage %d the log says %d times that the bus is away, want once for each:\n%s", outage, len(lines), strings.Join(lines, "\n"))
				}
			}
		})
	}
}

// mostLines is how many lines an outage may be worth: that the bus is away, and some by those who were just using it.
const mostLines = 3

// away wants the program not to be ready and to send producers away, for as long as the retries take.
func away(t *testing.T, p *process, ready *http.Request) {
	t.Helper()
	notReady := func() error {
		if code, body := do(ready); code != http.StatusServiceUnavailable || !strings.Contains(body, "EventBus default/default") {
			return fmt.Errorf("/readyz is %d %q, want 503 that names the bus", code, body)
		}
		return nil
	}
	eventually(t, 60*time.Second, "the outage is noticed", notReady)
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := notReady(); err != nil {
			t.Error(err)
		}
		resp, err := client.Post(p.url+"/default/away/a", "application/cloudevents+json", strings.NewReader(`{"specversion":"1.0","id":"x","source":"/x","type":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("a publication got %d with Retry-After %q, want 503 with one", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
}
