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
	b := m.bus()
	t.Cleanup(func() { _ = b.Close() })
	l := newLoad(t, b)
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

// load publishes events and receives them.
type load struct {
	t          *testing.T
	stop       context.CancelFunc
	publishing sync.WaitGroup

	mu      sync.Mutex
	taken   []string
	refused int
	came    map[string]int
}

func newLoad(t *testing.T, b bus.Bus) *load {
	t.Helper()
	const topic = "openfunction.test.es.killed"
	l := &load{t: t, came: map[string]int{}}
	ready := make(chan struct{})
	var once sync.Once
	s := bus.Subscription{Name: "killed", Topics: []string{topic}, Ready: func(err error) {
		if err == nil {
			once.Do(func() { close(ready) })
		}
	}}
	received := make(chan error, 1)
	go func() { received <- b.Subscribe(t.Context(), s, l.receive) }()
	t.Cleanup(func() { <-received })
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the subscription is not ready within a minute")
	}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	handler := b.Topic(bus.Topic{Name: topic})
	for publisher := range 4 {
		l.publishing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.publish(handler, strconv.Itoa(publisher)+"-"+strconv.Itoa(n))
			}
		})
	}
	return l
}

func (l *load) receive(m *bus.Message) {
	l.mu.Lock()
	l.came[m.Event.ID()]++
	l.mu.Unlock()
	m.Done(nil)
}

// publish returns when the event is taken.
func (l *load) publish(to event.Handler, id string) {
	e := newEvent(l.t, id, nil)
	for l.t.Context().Err() == nil {
		err := to.Handle(l.t.Context(), e)
		l.mu.Lock()
		if err == nil {
			l.taken = append(l.taken, id)
			l.mu.Unlock()
			time.Sleep(5 * time.Millisecond) // A load that leaves the machine to others.
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

// finish wants every event that was taken to come.
func (l *load) finish() {
	l.t.Helper()
	l.stop()
	l.publishing.Wait()
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
