package jetstream

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/openfunction/events/pkg/plan"
)

// attended is a context that never ends and knows how much waits for its end.
type attended struct {
	context.Context
	done    chan struct{}
	waiting atomic.Int64
}

func (a *attended) Done() <-chan struct{} { return a.done }

// AfterFunc is what package context calls.
func (a *attended) AfterFunc(func()) (stop func() bool) {
	a.waiting.Add(1)
	return func() bool { a.waiting.Add(-1); return true }
}

// The doctor looks every few seconds, for as long as no server lets it in.
func TestALookLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: "right", NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	b := New(t.Context(), Options{Name: "EventBus a/b", Config: plan.JetStream{URL: s.ClientURL(), NATSAccess: plan.NATSAccess{Token: "wrong"}}})
	t.Cleanup(func() { _ = b.Close() })
	ctx := &attended{Context: context.Background(), done: make(chan struct{})}
	for range 3 {
		if err := (&doctor{b: b}).look(ctx); err == nil {
			t.Error("look() = nil, want that the token is refused")
		}
	}
	if n := ctx.waiting.Load(); n != 0 {
		t.Errorf("%d functions wait for the end of the context, want none", n)
	}
}
