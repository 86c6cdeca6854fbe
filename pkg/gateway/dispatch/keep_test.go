package dispatch

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// A sink's authority changes again and again, and its process goes on for years.
func TestWhatNoSinkOfThePlanNeedsIsLetGo(t *testing.T) {
	t.Parallel()
	authority, next := servers.NewAuthority(t), servers.NewAuthority(t)
	var open atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Server().Pair(t)}}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	c := NewClient(nil)
	t.Cleanup(c.Close)
	before := plan.Target{Name: "sink default/s", URL: s.URL, CACerts: authority.Cert}
	after := before
	after.CACerts += next.Cert
	planOf := func(sink plan.Target) *plan.Plan {
		sources := []plan.Source{{Sink: &sink}}
		return &plan.Plan{Sources: append(sources, plan.Source{}), Subscribers: []plan.Subscriber{{DeadLetter: &sink}, {}}}
	}
	post := func(target plan.Target) *Sink {
		t.Helper()
		sink, err := c.Sink(target)
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
			t.Fatal(err)
		}
		return sink
	}
	old := post(before)
	c.Keep(planOf(before))
	post(before)
	if got := open.Load(); got != 1 {
		t.Errorf("%d connections, want the one of before", got)
	}
	post(after)
	c.Keep(planOf(after))
	for deadline := time.Now().Add(30 * time.Second); open.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections, want that with the new authority", open.Load())
		}
	}
	if got := len(c.transports); got != 1 {
		t.Errorf("%d authorities are remembered, want 1", got)
	}
	if err := old.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
		t.Errorf("what is under way to the sink of before fails: %v", err)
	}
}
