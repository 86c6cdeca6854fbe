//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const ordered = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {%s}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: keyed}
spec:
  http: {a: {}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: keyed}
spec:
  inputs:
    a: {eventSource: keyed, event: a}
  subscribers:
  - condition: a
    sink: {ref: {apiVersion: v1, kind: Service, name: sink}}
    delivery: {ordering: key, retry: 1000, backoffPolicy: linear, backoffDelay: PT0.005S}
`

// TestE2EOrderOfKeysSurvivesKill ends the program twice, by a kill if the bus keeps the order then, while events of many keys pass to a sink that is slow and refuses some. What comes
// again must come in order too, and none may be lost.
func TestE2EOrderOfKeysSurvivesKill(t *testing.T) {
	const keys, each = 40, 40
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLives(t)
			file := write(t, "ordered.yaml", fmt.Sprintf(ordered, strings.Replace(b.yaml, "brokers:", "partitions: 6, brokers:", 1)))
			var url atomic.Value
			begin := func(life int) *process {
				p := run(t, append([]string{"-f", file, "--sink", fmt.Sprintf("default/sink=%s/%d", s.URL, life)}, b.args...)...)
				url.Store(p.url)
				return p
			}
			p := begin(0)
			var producers sync.WaitGroup
			for key := range keys {
				producers.Go(func() {
					for n := range each {
						publishKeyed(t, func() string { return url.Load().(string) + "/default/keyed/a" }, key, n)
					}
				})
			}
			for life := 1; life <= 2; life++ {
				eventually(t, 120*time.Second, "progress", func() error { return s.has(life * keys * each / 3) })
				if name == "nats streaming" {
					p.terminate() // after a kill its server sends what is new first
				} else {
					p.kill()
				}
				p = begin(life)
			}
			producers.Wait()
			eventually(t, 120*time.Second, "every event has arrived", func() error { return s.has(keys * each) })
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, problem := range s.problems[:min(10, len(s.problems))] {
				t.Error(problem)
			}
			t.Logf("%s: %d events of %d keys, lost 0, repeated %d, out of order %d", name, len(s.seen), keys, s.repeated, len(s.problems))
		})
	}
}

// publishKeyed posts event n of a key until it is accepted.
func publishKeyed(t *testing.T, url func() string, key, n int) {
	t.Helper()
	eventually(t, 90*time.Second, fmt.Sprintf("event %d of key %d is accepted", n, key), func() error {
		req, err := http.NewRequest(http.MethodPost, url(), nil)
		if err != nil {
			return err
		}
		for name, value := range map[string]string{
			"specversion": "1.0", "id": fmt.Sprintf("%d/%d", key, n), "source": "/test", "type": "test", "partitionkey": strconv.Itoa(key),
		} {
			req.Header.Set("ce-"+name, value)
		}
		if code, body := do(req); code != http.StatusAccepted {
			return fmt.Errorf("status %d: %s", code, body)
		}
		return nil
	})
}

// lives is a sink whose path tells which life of the program sent an event: a request of one that was killed may be dealt with later.
type lives struct {
	*httptest.Server
	mu       sync.Mutex
	next     map[string]int  // by key: what follows the highest number that was delivered
	last     map[string]int  // by life and key: the number of the event before
	seen     map[string]bool // by id
	repeated int
	problems []string
}

func newLives(t *testing.T) *lives {
	s := &lives{next: map[string]int{}, last: map[string]int{}, seen: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *lives) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(rand.N(20 * time.Millisecond)) // deliveries overtake each other, if they may
	if rand.N(4) == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	key, number, _ := strings.Cut(r.Header.Get("ce-id"), "/")
	n, err := strconv.Atoi(number)
	life := r.URL.Path + " " + key
	s.mu.Lock()
	defer s.mu.Unlock()
	last, began := s.last[life]
	switch {
	case err != nil, n > s.next[key]:
		s.problems = append(s.problems, fmt.Sprintf("life %s: event %s of key %s came before %d", r.URL.Path, number, key, s.next[key]))
	case began && n != last+1 && n != last: // an attempt whose answer was lost is made again
		s.problems = append(s.problems, fmt.Sprintf("life %s: event %s of key %s came after %d", r.URL.Path, number, key, last))
	}
	s.last[life], s.next[key] = n, max(n+1, s.next[key])
	if id := r.Header.Get("ce-id"); s.seen[id] {
		s.repeated++
	} else {
		s.seen[id] = true
	}
}

func (s *lives) has(want int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) < want {
		return fmt.Errorf("%d events are delivered, want %d", len(s.seen), want)
	}
	return nil
}
