package memory

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// pause is how long a message that failed waits before it comes again.
const pause = 50 * time.Millisecond

// item is one event for one subscription, in the order of publication.
type item struct {
	event    *event.Event
	topic    string
	stored   time.Time
	sequence uint64

	owner *member // nil while it waits
	after time.Time
}

// subscription is what the broker remembers. It is locked after the broker.
type subscription struct {
	mu      sync.Mutex
	topics  map[string]bool
	items   *list.List // of *item
	changed chan struct{}
}

func newSubscription() *subscription {
	return &subscription{items: list.New(), changed: make(chan struct{})}
}

// wake tells every member to look again. The lock is held.
func (s *subscription) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *subscription) setTopics(topics []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics = make(map[string]bool, len(topics))
	for _, t := range topics {
		s.topics[t] = true
	}
	for el := s.items.Front(); el != nil; {
		next := el.Next()
		if it := el.Value.(*item); it.owner == nil && !s.topics[it.topic] {
			s.items.Remove(el)
		}
		el = next
	}
}

func (s *subscription) full(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[topic] && s.items.Len() >= capacity
}

func (s *subscription) add(it *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics[it.topic] {
		s.items.PushBack(it)
		s.wake()
	}
}

// member is one running Subscribe.
type member struct {
	*subscription
	limit    int
	ordered  bool
	inFlight int           // under the subscription's lock
	idle     chan struct{} // has room for one; told when inFlight becomes 0
}

// receive hands over messages until ctx is done or closing is closed.
func (m *member) receive(ctx context.Context, closing <-chan struct{}, receive func(*bus.Message)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		msg, wait, changed := m.next()
		if msg != nil {
			receive(msg)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-closing:
			return
		case <-changed:
		case <-timer.C:
		}
	}
}

// next takes the first message that may be delivered, or says how long to wait for one.
func (m *member) next() (*bus.Message, time.Duration, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wait := time.Hour
	if m.inFlight >= m.limit {
		return nil, wait, m.changed
	}
	for el := m.items.Front(); el != nil; el = el.Next() {
		it := el.Value.(*item)
		if it.owner != nil {
			continue
		}
		if d := time.Until(it.after); d > 0 {
			wait = min(wait, d)
			if m.ordered {
				break
			}
			continue
		}
		it.owner = m
		m.inFlight++
		return bus.NewMessage(bus.Message{Event: it.event, Topic: it.topic, Stored: it.stored, Sequence: it.sequence},
			func(err error) { m.done(el, err) }), 0, nil
	}
	return nil, wait, m.changed
}

func (m *member) done(el *list.Element, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	it := el.Value.(*item)
	mine := it.owner == m
	if err == nil {
		m.items.Remove(el)
	} else if mine {
		it.owner, it.after = nil, time.Now().Add(pause)
	}
	if mine {
		m.leave()
	}
	m.wake()
}

// leave counts one message less in flight. The lock is held.
func (m *member) leave() {
	if m.inFlight--; m.inFlight == 0 {
		select {
		case m.idle <- struct{}{}:
		default:
		}
	}
}

// drain waits for what is in flight and then gives the rest back.
func (m *member) drain(grace time.Duration, closing <-chan struct{}) {
	expired := time.NewTimer(grace)
	defer expired.Stop()
	for m.holds() {
		select {
		case <-m.idle:
			continue
		case <-expired.C:
		case <-closing:
		}
		break
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for el := m.items.Front(); el != nil; el = el.Next() {
		if it := el.Value.(*item); it.owner == m {
			it.owner = nil
			m.inFlight--
		}
	}
	m.wake()
}

func (m *member) holds() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inFlight > 0
}
