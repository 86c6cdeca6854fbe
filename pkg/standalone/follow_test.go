package standalone

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// collector is a sink that takes events or does not, and knows the bodies of those that it took.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	taken []string
}

func newCollector(t *testing.T, takes bool) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !takes {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.taken = append(c.taken, string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

// wants waits until the sink has taken all of these.
func (c *collector) wants(t *testing.T, bodies []string) {
	t.Helper()
	var missing []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		missing = slices.DeleteFunc(slices.Clone(bodies), func(b string) bool { return slices.Contains(c.taken, b) })
		c.mu.Unlock()
		if len(missing) == 0 {
			return
		}
	}
	t.Fatalf("%d of %d events are missing: %q", len(missing), len(bodies), missing)
}

// triggerTo writes a file with a Trigger whose subscriber leads to a sink.
func triggerTo(t *testing.T, file, name string, sink *collector) {
	t.Helper()
	write(t, file, fmt.Sprintf(`
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: s}
spec: {http: {a: {raw: true}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: %s}
spec:
  inputs: {a: {eventSource: s, event: a}}
  subscribers: [{condition: a, sink: {uri: "%s/x"}}]
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {embedded: {}}
`, name, sink.URL))
}

// posts sends events and returns their bodies.
func (p *process) posts(t *testing.T, about string) []string {
	t.Helper()
	base := p.stderr.wait(t, `^listening on (http://\S+)$`)[1]
	var bodies []string
	for i := range 20 {
		body := fmt.Sprintf(`{"%s":%d}`, about, i)
		if got := post(t, base+"/default/s/a", body); got != http.StatusAccepted {
			t.Fatalf("POST = %d, want 202", got)
		}
		bodies = append(bodies, body)
	}
	return bodies
}

func TestWhatWaitsGoesToTheEditedSink(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	away, good := newCollector(t, false), newCollector(t, true)
	triggerTo(t, file, "j", away)
	p := start(t, Options{Paths: []string{file}})
	bodies := p.posts(t, "waits")
	triggerTo(t, file, "j", good)
	p.stderr.wait(t, `^applied: 1 source, 1 subscriber$`)
	good.wants(t, bodies)
	if strings.Contains(p.stderr.String(), "removed") {
		t.Errorf("stderr:\n%s", &p.stderr)
	}
	triggerTo(t, file, "another", good)
	p.stderr.wait(t, `^removed, with what waited for it: Trigger default/j to sink `+good.URL+`/x$`)
}

// Edits while the process runs and while it does not, one after the other: the name of the subscription is that of the first target.
func TestWhatWaitsOutlivesEditsAndRestarts(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "f.yaml")
	first, second, third, good := newCollector(t, false), newCollector(t, false), newCollector(t, false), newCollector(t, true)
	var bodies []string
	triggerTo(t, file, "j", first)
	t.Run("edited while it runs", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		bodies = append(bodies, p.posts(t, "one")...)
		triggerTo(t, file, "j", second)
		p.stderr.wait(t, `^applied: 1 source, 1 subscriber$`)
		bodies = append(bodies, p.posts(t, "two")...)
	})
	triggerTo(t, file, "j", third)
	t.Run("edited while it does not", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		bodies = append(bodies, p.posts(t, "three")...)
	})
	triggerTo(t, file, "j", good)
	t.Run("good at last", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		bodies = append(bodies, p.posts(t, "four")...)
		good.wants(t, bodies)
	})
	saved, err := os.ReadFile(filepath.Join(data, subscriptionsName))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(saved), good.URL) {
		t.Errorf("the data directory has the target, which may have a password:\n%s", saved)
	}
	write(t, filepath.Join(data, subscriptionsName), "garbage")
	err = Run(t.Context(), Options{Paths: []string{file}, DataDir: data, Listen: "127.0.0.1:0", Sinks: &Sinks{}, Addresses: &Addresses{}, Stdout: io.Discard, Stderr: io.Discard})
	if err == nil || !strings.Contains(err.Error(), subscriptionsName+": invalid character 'g' looking for beginning of value: restore it, or remove it") {
		t.Errorf("Run() with a damaged file = %v", err)
	}
}

// A Trigger is removed while nothing runs, and the next process does not meet its broker: the one after that removes the subscription.
func TestASubscriptionThatNobodyHasIsRemovedWhenItsBrokerIsBack(t *testing.T) {
	dir, data, store := t.TempDir(), t.TempDir(), t.TempDir()
	file, sink := filepath.Join(dir, "f.yaml"), newCollector(t, true)
	triggerTo(t, file, "j", sink)
	port := servers.FreePort(t)
	bus := fmt.Sprintf(`jetStream: {url: "nats://127.0.0.1:%d"}`, port)
	declared, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	objects := strings.Split(strings.Replace(string(declared), "embedded: {}", bus, 1), "---\n") // the EventSource, the Trigger and the bus
	write(t, file, strings.Join(objects, "---\n"))
	broker := func() (subscriptions func() int, stop func()) {
		t.Helper()
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: store, NoSigs: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		return func() int {
				info, err := s.Jsz(&server.JSzOptions{Streams: true, Consumer: true})
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, a := range info.AccountDetails {
					for _, stream := range a.Streams {
						for _, c := range stream.Consumer {
							if strings.Contains(c.Name, "default_j") {
								n++
							}
						}
					}
				}
				return n
			}, func() {
				s.Shutdown()
				s.WaitForShutdown()
			}
	}
	wants := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}
	saved := func() string {
		text, _ := os.ReadFile(filepath.Join(data, subscriptionsName))
		return string(text)
	}
	subscriptions, stop := broker()
	t.Run("it is there", func(t *testing.T) {
		start(t, Options{Paths: []string{file}, DataDir: data})
		wants("the subscription", func() bool { return subscriptions() == 1 })
	})
	stop()
	write(t, file, objects[0]+"---\n"+objects[2])
	t.Run("the broker is away", func(t *testing.T) {
		start(t, Options{Paths: []string{file}, DataDir: data})
		wants("it is remembered", func() bool { return strings.Contains(saved(), "retired") })
	})
	subscriptions, stop = broker()
	defer stop()
	if n := subscriptions(); n != 1 {
		t.Fatalf("the broker has %d subscriptions, want the one", n)
	}
	// A run that ends between the broker's removal and what says so leaves it to the next, which finds nothing to remove.
	wants("it is forgotten", func() bool {
		t.Run("the broker is back", func(t *testing.T) {
			start(t, Options{Paths: []string{file}, DataDir: data})
			wants("no subscription", func() bool { return subscriptions() == 0 })
		})
		return t.Failed() || !strings.Contains(saved(), "retired")
	})
}

// What waited is gone where its subscription is removed, and with a bus in memory; on a broker that is left it stays.
func TestLost(t *testing.T) {
	embedded := plan.Bus{Name: "b", Embedded: &plan.Embedded{}}
	broker := plan.Bus{Name: "b", JetStream: &plan.JetStream{URL: "nats://one:4222"}}
	of := func(bus plan.Bus, subscribers ...plan.Subscriber) *plan.Plan {
		return &plan.Plan{Buses: []plan.Bus{bus}, Subscribers: subscribers}
	}
	a, other := plan.Subscriber{ID: "a", Bus: "b"}, plan.Subscriber{ID: "other", Bus: "b"}
	for _, tt := range []struct {
		name, dir string
		last, now *plan.Plan
		want      int
	}{
		{"it goes on", "", of(embedded, a), of(embedded, a), 0},
		{"it is removed from a bus in memory", "", of(embedded, a), of(embedded, other), 1},
		{"it is removed from a broker", "", of(broker, a), of(broker, other), 1},
		{"its bus goes with it", "", of(broker, a), &plan.Plan{}, 1},
		{"a bus in memory becomes a broker", "", of(embedded, a), of(broker, a), 1},
		{"so too under another name", "", of(embedded, a), of(broker, other), 1},
		{"a bus on disk is left", "d", of(embedded, a), of(broker, other), 0},
		{"a broker is left", "", of(broker, a), of(embedded, a), 0},
		{"a broker is left under another name", "", of(broker, a), of(embedded, other), 0},
		{"nothing ran before", "", nil, of(embedded, a), 0},
	} {
		r := &runner{Options: Options{DataDir: tt.dir}, last: tt.last}
		if got := r.lost(tt.now); len(got) != tt.want {
			t.Errorf("%s: lost() = %v, want %d", tt.name, got, tt.want)
		}
	}
}

func TestManyThatAreRemovedAreCounted(t *testing.T) {
	last := &plan.Plan{}
	for i := range 13 {
		last.Subscribers = append(last.Subscribers, plan.Subscriber{ID: fmt.Sprint(i)})
	}
	var says strings.Builder
	(&runner{Options: Options{Stderr: &says}, last: last}).applied(&plan.Plan{}, nil)
	if got := says.String(); strings.Count(got, "removed, ") != 10 || !strings.HasSuffix(got, "\n... and 3 more\n") {
		t.Errorf("applied() says\n%s", got)
	}
}
