package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// TestTheAuthorityOfASinkChanges has a sink go over to a certificate of another authority while events pass, once after the plan has both and once
// before. Nothing is lost, and nothing becomes a dead letter. At last the old one is trusted no more.
func TestTheAuthorityOfASinkChanges(t *testing.T) {
	authorities := []*servers.Authority{servers.NewAuthority(t), servers.NewAuthority(t), servers.NewAuthority(t)}
	var shown atomic.Pointer[tls.Config]
	var step atomic.Int64 // counts certificates
	var greeted, taken [10]atomic.Int64
	var c counted
	type since struct{} // the step in which a connection began
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		taken[r.Context().Value(since{}).(int64)].Add(1)
		c.add(r.Header.Get("ce-id"))
	}))
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, since{}, step.Load())
	}
	shows := func(n int) {
		shown.Store(&tls.Config{Certificates: []tls.Certificate{authorities[n].Server().Pair(t)}})
		step.Add(1)
		if s.URL != "" {
			s.CloseClientConnections()
		}
	}
	shows(0)
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		greeted[step.Load()].Add(1)
		return shown.Load(), nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	r := start(t, "")
	trusting := func(ns ...int) *plan.Plan {
		sink := plan.Target{Name: "sink default/s", URL: s.URL}
		for _, n := range ns {
			sink.CACerts += authorities[n].Cert
		}
		return onePath(plan.Subscriber{
			Condition: "a", Sink: &sink, Delivery: plan.Delivery{Retry: 1000, Timeout: patience, Linear: true, BackoffDelay: 20 * time.Millisecond, RetryAfterMax: time.Second},
		})
	}
	r.apply(t, trusting(0))

	stop, posted := make(chan struct{}), make(chan int, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				posted <- n
				return
			case <-t.Context().Done():
				return
			default:
			}
			if code, says := r.post("a", fmt.Sprint(n)); code != http.StatusAccepted {
				t.Errorf("event %d: status %d: %s", n, code, says)
			}
			time.Sleep(time.Millisecond) // so that what waits is soon delivered
		}
	}()
	passes := func(what string) {
		t.Helper()
		before := c.distinct()
		eventually(t, what, func() error {
			if got := c.distinct() - before; got < 50 {
				return fmt.Errorf("%d events arrive", got)
			}
			return nil
		})
	}
	fails := func(what string) {
		t.Helper()
		eventually(t, what, func() error {
			said, tried := fmt.Sprint(r.Report().Objects["Trigger default/t"].Failing), greeted[step.Load()].Load()
			if tried < 3 || !strings.Contains(said, "not taken by sink default/s") {
				return fmt.Errorf("tried %d times, and the report says %q", tried, said)
			}
			return nil
		})
		if n := taken[step.Load()].Load(); n > 0 {
			t.Errorf("%s: %d events are delivered", what, n)
		}
	}
	passes("at first")
	r.apply(t, trusting(0, 1))
	passes("with both")
	shows(1)
	passes("with the new one")
	r.apply(t, trusting(1))
	passes("with nothing but the new one")
	shows(2)
	fails("a certificate of nobody who is trusted")
	r.apply(t, trusting(2))
	passes("with the newest one")
	shows(1)
	fails("a certificate of the authority before")
	shows(2)
	passes("at last")
	close(stop)
	n := <-posted
	eventually(t, "every event", func() error {
		if got := c.distinct(); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.observed {
		t.Errorf("a dead letter: %s", line)
	}
}

// counted are events by their ids.
type counted struct {
	mu  sync.Mutex
	ids map[string]int
}

func (c *counted) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil {
		c.ids = map[string]int{}
	}
	c.ids[id]++
}

func (c *counted) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ids)
}
