//go:build e2e

package natsstreaming

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/test/servers"
)

func TestE2EConformance(t *testing.T) {
	authority := servers.NewAuthority(t)
	s := servers.SecuredNATSStreaming(t, authority,
		"{ user: events, password: right-s3cret }", "{ user: other, password: other-s3cret }",
		`{ user: few, password: right-s3cret, permissions: { publish: [ "openfunction.>" ] } }`,
		`{ user: deaf, password: right-s3cret, permissions: { subscribe: [ "_INBOX.>" ] } }`,
	)
	f := fixture(t, s.URL(), authority)
	f.Stop, f.Start, f.Outage = func(testing.TB) { s.Kill() }, func(testing.TB) { s.Start() }, 20*time.Second
	bustest.Run(t, f)
}

func TestE2EConformanceOfTypeTopic(t *testing.T) {
	s := servers.NATSStreaming(t)
	f := alone(s.URL())
	f.Stop, f.Start = func(testing.TB) { s.Kill() }, func(testing.TB) { s.Start() }
	bustest.Run(t, f)
}

func TestE2ENothingIsLostWhenTheServerIsKilled(t *testing.T) {
	const publishers, events = 50, 5000
	s := servers.NATSStreaming(t)
	b := connect(t, instance(), config(s.URL()))
	in := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{"topic"}})
	work := make(chan int)
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for i := range work {
				if err := tryPublish(b, "topic", newEvent(t, fmt.Sprint(i), "text/plain", []byte("x"))); err != nil {
					t.Errorf("publish %d: %v", i, err)
				}
			}
		})
	}
	for i := range events {
		work <- i
		if i == events/3 || i == 2*events/3 {
			s.Kill()
			eventually(t, "the bus is away", func() bool { return !isReady(b)() })
			s.Start()
		}
	}
	close(work)
	wg.Wait()
	want := map[string]bool{}
	for i := range events {
		want[fmt.Sprint(i)] = true
	}
	eventually(t, "every event is received", func() bool {
		for _, id := range in.ids() {
			delete(want, id)
		}
		return len(want) == 0
	})
	t.Logf("%d events were received %d times", events, len(in.ids()))
}

func TestE2ELongOutageLeaksNothing(t *testing.T) {
	s := servers.NATSStreaming(t)
	b := connect(t, instance(), config(s.URL()))
	in := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{"a", "b"}})
	publish(t, b, "a", "before")
	in.wants(t, "before")
	before := runtime.NumGoroutine()

	s.Kill()
	eventually(t, "the bus is away", func() bool { return !isReady(b)() })
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := b.publish(t.Context(), "a", newEvent(t, "away", "", nil)); err == nil {
			t.Fatal("published while the server is away")
		}
		if n := runtime.NumGoroutine(); n > before+10 {
			t.Fatalf("%d goroutines during the outage, %d before", n, before)
		}
	}
	s.Start()
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	publish(t, b, "b", "after")
	in.wants(t, "before", "after")
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func TestE2EFrozenServer(t *testing.T) {
	s := servers.NATSStreaming(t)
	b := connect(t, instance(), config(s.URL()))
	in := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{"topic"}})
	other := connect(t, instance(), config(s.URL()))
	subscribe(t, other, bus.Subscription{Name: "other", Topics: []string{"topic"}})
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(s.Process().Pid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(s.Process().Pid(), syscall.SIGCONT) })
	begin := time.Now()
	err := b.Topic(bus.Topic{Name: "topic"}).Handle(t.Context(), newEvent(t, "frozen", "", nil))
	var away *event.Unavailable
	if !errors.As(err, &away) || time.Since(begin) > 20*time.Second { // 5, and what a busy machine adds
		t.Errorf("Handle while the server is frozen = %v after %s, want *event.Unavailable within 20s", err, time.Since(begin))
	}
	begin = time.Now()
	if err := other.Close(); err != nil || time.Since(begin) > 30*time.Second { // 10, and what a busy machine adds
		t.Errorf("Close while the server is frozen = %v after %s, want nil within 30s", err, time.Since(begin))
	}
	eventually(t, "the bus is away", func() bool { return !isReady(b)() })
	signal(syscall.SIGCONT)
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	publish(t, b, "topic", "after")
	eventually(t, "the event is received", func() bool { return slices.Contains(in.ids(), "after") })
}

func TestE2EWhatMayBeLostWhileNoProcessRanIsTold(t *testing.T) {
	s := servers.NATSStreaming(t, "store_limits: { max_msgs: 10 }")
	again, logs := restart(t, s.URL(), true, func(publisher *Bus) { publishMany(t, publisher, 30) })
	untilTold(t, again, logs)
}
