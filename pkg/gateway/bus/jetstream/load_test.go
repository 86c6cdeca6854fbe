//go:build e2e

package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
)

const (
	loadTopic  = "openfunction.test.es.load"
	publishers = 10
)

// load publishes events at a rate, each until it is taken, and counts what a subscription receives.
type load struct {
	t        *testing.T
	stop     chan struct{}
	running  sync.WaitGroup
	topic    atomic.Pointer[event.Handler]
	next     atomic.Int64
	mu       sync.Mutex
	received map[string]int
}

func newLoad(t *testing.T) *load {
	return &load{t: t, stop: make(chan struct{}), received: map[string]int{}}
}

// begin publishes perSecond events a second on b.
func (l *load) begin(b bus.Bus, perSecond int) {
	l.use(b)
	for range publishers {
		l.running.Go(func() { l.publish(time.Second * publishers / time.Duration(perSecond)) })
	}
}

// use makes the publishers publish on b, what they could not publish so far too.
func (l *load) use(b bus.Bus) {
	topic := b.Topic(bus.Topic{Name: loadTopic})
	l.topic.Store(&topic)
}

func (l *load) publish(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		e := newEvent(l.t, fmt.Sprint(l.next.Add(1)), []byte("x"))
		for {
			err := (*l.topic.Load()).Handle(context.Background(), e)
			if err == nil {
				break
			}
			if event.IsPermanent(err) {
				l.t.Errorf("event %s: %v", e.ID(), err)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// attach receives from b until detach.
func (l *load) attach(b *jetstream.Bus) (detach func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	var once sync.Once
	s := bus.Subscription{Name: "load", Topics: []string{loadTopic}, Ready: func(err error) {
		if err == nil {
			once.Do(func() { close(ready) })
		}
	}}
	go func() { ended <- b.Subscribe(ctx, s, l.receive) }()
	detach = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("Subscribe() = %v, want nil", err)
		}
	})
	l.t.Cleanup(detach)
	select {
	case <-ready:
	case <-time.After(time.Minute):
		l.t.Fatalf("the subscription is not ready: %v", b.Ready())
	}
	return detach
}

func (l *load) receive(m *bus.Message) {
	l.mu.Lock()
	l.received[m.Event.ID()]++
	l.mu.Unlock()
	m.Done(nil)
}

// more waits until n more events were begun.
func (l *load) more(n int64) {
	l.t.Helper()
	want := l.next.Load() + n
	eventually(l.t, fmt.Sprintf("%d more events", n), func() bool { return l.next.Load() >= want })
}

// wantAll ends the load and waits until everything was received.
func (l *load) wantAll() {
	l.t.Helper()
	close(l.stop)
	l.running.Wait()
	sent, received := int(l.next.Load()), 0
	eventually(l.t, fmt.Sprintf("all of %d events", sent), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.received) == sent
	})
	for _, n := range l.received {
		received += n
	}
	l.t.Logf("%d events, none lost, %d received again", sent, received-sent)
}
