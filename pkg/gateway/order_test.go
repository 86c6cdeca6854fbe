//go:build e2e

package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// TestE2EOrderOfKeys sends events of many keys through two gateways on one Kafka bus to a sink that fails at random. One gateway ends meanwhile.
// No event may come before one of its key that was published earlier, and none may be lost.
func TestE2EOrderOfKeys(t *testing.T) {
	t.Parallel()
	const keys, each = 40, 30
	k := servers.Kafka(t)
	s := &orderedSink{next: map[string]int{}}
	sink := httptest.NewServer(s)
	defer sink.Close()
	p := onePath(plan.Subscriber{
		ID: "ordered", Condition: "a", Sink: &plan.Target{Name: "sink", URL: sink.URL},
		Delivery: plan.Delivery{Retry: 1000, Timeout: 20 * time.Second, BackoffDelay: 5 * time.Millisecond, Linear: true, KeyOrder: true},
	})
	p.Buses = []plan.Bus{{Name: "bus", Kafka: &plan.KafkaBus{
		KafkaAccess: plan.KafkaAccess{Brokers: []string{k.Addr()}}, Partitions: 6, ReplicationFactor: 1, Retention: time.Hour,
	}}}
	var gateways []*running
	for n := range 2 {
		r := startWith(t, func(o *Options) { o.Observe, o.Instance, o.Grace = nil, fmt.Sprint("test-", n), 20*time.Second })
		r.apply(t, p)
		gateways = append(gateways, r)
	}
	var posting sync.WaitGroup
	for key := range keys {
		posting.Go(func() {
			for n := range each {
				for postKeyed(gateways[0].Addr(), key, n) != http.StatusAccepted && t.Context().Err() == nil {
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	taken := func(want int) {
		t.Helper()
		eventually(t, "events arrive", func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.taken < want {
				return fmt.Errorf("%d, want %d", s.taken, want)
			}
			return nil
		})
	}
	taken(keys * each / 3)
	gateways[1].stop()
	posting.Wait()
	taken(keys * each)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, problem := range s.problems {
		t.Error(problem)
	}
	t.Logf("%d events of %d keys in order, none lost, %d repeated, %d refused", s.taken, keys, s.repeated, s.refused)
}

// postKeyed posts event n of a key and returns the status, or 0.
func postKeyed(address string, key, n int) int {
	req, err := http.NewRequest(http.MethodPost, "http://"+address+"/default/es/a", nil)
	if err != nil {
		return 0
	}
	for k, v := range map[string]string{
		"ce-specversion": "1.0", "ce-id": fmt.Sprintf("%d/%d", key, n), "ce-source": "/test", "ce-type": "test", "ce-partitionkey": strconv.Itoa(key),
	} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// orderedSink refuses every third request or so, and notes what does not come in the order of its key.
type orderedSink struct {
	mu                       sync.Mutex
	next                     map[string]int // by key
	taken, repeated, refused int
	problems                 []string
}

func (s *orderedSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(rand.N(3 * time.Millisecond)) // deliveries overtake each other, if they may
	key, text, _ := strings.Cut(r.Header.Get("ce-id"), "/")
	n, err := strconv.Atoi(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch next := s.next[key]; {
	case rand.N(3) == 0:
		s.refused++
		w.WriteHeader(http.StatusServiceUnavailable)
	case err != nil || n > next:
		s.problems = append(s.problems, fmt.Sprintf("%s came when the next of its key was %d", r.Header.Get("ce-id"), next))
		s.next[key] = n + 1
		s.taken++
	case n < next:
		s.repeated++
	default:
		s.next[key]++
		s.taken++
	}
}
