//go:build e2e

package embedded

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// TestE2EKill kills one member after the other, and then all at once for 20 seconds, with SIGKILL while events are published and received.
// What is not taken is published again; every event that was taken has to come.
func TestE2EKill(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3)
	l := newLoad(t, m.bus(), 300) // leaves the machine to others
	for i := range m.all {
		l.passes(100)
		m.all[i].process.Kill()
		l.passes(100) // The other two go on without it.
		m.startOne(i)
		m.await(i)
	}
	l.passes(100)
	m.kill()
	time.Sleep(20 * time.Second)
	m.start()
	l.passes(100)
	l.finish()
}

// load publishes events at a steady rate and receives them.
type load struct {
	t          *testing.T
	stop       context.CancelFunc
	publishing sync.WaitGroup
	due        int    // events; valid once nobody publishes
	leave      func() // ends what use began

	mu      sync.Mutex
	to      event.Handler
	taken   []string
	refused int
	came    map[string]int
}

const loadTopic = "openfunction.test.es.loaded"

// newLoad begins with the load on b, which it closes.
func newLoad(t *testing.T, b bus.Bus, perSecond int) *load {
	t.Helper()
	l := &load{t: t, came: map[string]int{}, leave: func() {}}
	t.Cleanup(func() { l.leave() })
	l.use(b)()
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	work := make(chan string, perSecond)
	l.publishing.Go(func() {
		defer close(work)
		const ticks = 100
		tick := time.NewTicker(time.Second / ticks)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			for range perSecond / ticks {
				work <- strconv.Itoa(l.due)
				l.due++
			}
		}
	})
	for range 32 {
		l.publishing.Go(func() {
			for id := range work {
				l.publish(id)
			}
		})
	}
	return l
}

// use has the load leave its bus for b. The function that it returns waits until the load receives there.
func (l *load) use(b bus.Bus) (await func()) {
	l.mu.Lock()
	l.to = b.Topic(bus.Topic{Name: loadTopic})
	l.mu.Unlock()
	l.leave()
	ctx, cancel := context.WithCancel(l.t.Context())
	ready := make(chan struct{})
	var once sync.Once
	s := bus.Subscription{Name: "loaded", Topics: []string{loadTopic}, Ready: func(err error) {
		if err == nil {
			once.Do(func() { close(ready) })
		}
	}}
	received := make(chan error, 1)
	go func() { received <- b.Subscribe(ctx, s, l.receive) }()
	l.leave = func() {
		cancel()
		<-received
		_ = b.Close()
		l.leave = func() {}
	}
	return func() {
		l.t.Helper()
		select {
		case <-ready:
		case <-time.After(time.Minute):
			l.t.Fatal("the subscription is not ready within a minute")
		}
	}
}

func (l *load) receive(m *bus.Message) {
	l.mu.Lock()
	l.came[m.Event.ID()]++
	l.mu.Unlock()
	m.Done(nil)
}

// publish returns when the event is taken.
func (l *load) publish(id string) {
	e := newEvent(l.t, id, nil)
	for l.t.Context().Err() == nil {
		l.mu.Lock()
		to := l.to
		l.mu.Unlock()
		err := to.Handle(l.t.Context(), e)
		l.mu.Lock()
		if err == nil {
			l.taken = append(l.taken, id)
			l.mu.Unlock()
			return
		}
		l.refused++
		l.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
	}
}

// passes waits until so many more events are taken.
func (l *load) passes(more int) {
	l.t.Helper()
	l.mu.Lock()
	want := len(l.taken) + more
	l.mu.Unlock()
	l.eventually("more events are taken", func() error {
		if len(l.taken) < want {
			return fmt.Errorf("%d, want %d", len(l.taken), want)
		}
		return nil
	})
}

// finish wants every event to be taken, and to come.
func (l *load) finish() {
	l.t.Helper()
	l.stop()
	l.publishing.Wait()
	if len(l.taken) != l.due {
		l.t.Errorf("%d events of %d were taken", len(l.taken), l.due)
	}
	l.eventually("every event comes", func() error {
		missing := 0
		for _, id := range l.taken {
			if l.came[id] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d are missing", missing, len(l.taken))
		}
		return nil
	})
	repeated := 0
	for _, n := range l.came {
		repeated += n - 1
	}
	l.t.Logf("%d events taken after %d refusals, none lost, %d delivered again", len(l.taken), l.refused, repeated)
}

// eventually calls check while nothing changes.
func (l *load) eventually(what string, check func() error) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		l.mu.Lock()
		err := check()
		l.mu.Unlock()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: %v", what, err)
		}
	}
}
