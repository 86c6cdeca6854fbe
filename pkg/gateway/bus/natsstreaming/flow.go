package natsstreaming

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/stan.go"
	"github.com/nats-io/stan.go/pb"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	// redeliverAfter is the pause before a message that was Done with an error is handed over again.
	redeliverAfter = time.Second
	// remembered is how many acknowledged messages are recognised when the server sends them again.
	remembered = 4096
)

// place is where a message is stored. A server that lost its store gives the same places to other messages: the time tells.
type place struct {
	topic    string
	sequence uint64
	stored   int64
}

// message is one that was received and not acknowledged.
type message struct {
	place
	raw    []byte // until it is parsed
	event  *event.Event
	err    error // why raw was not an event
	handle *stan.Msg
	out    bool // handed over and not Done
	// readyAt is when to hand it over: when no other process claimed it, or when it is time to try again. Zero means any time.
	readyAt time.Time
}

// flow is what a subscription holds: messages to hand over, those handed over, and those to hand over again. The server sends
// what is not acknowledged again and again, on the connection of the moment; a flow hands it over once, and acknowledges it
// where the server sent it last.
type flow struct {
	max     int
	receive func(*bus.Message)
	wake    chan struct{}                   // has room for one: look again
	gapped  chan struct{}                   // has room for one: look at gaps
	doubt   func(topic string, gap missing) // is called with what another member may have got

	mu         sync.Mutex
	generation int // of the server subscription
	held       map[place]*message
	queue      []*message  // in the order of the server
	failed     []*message  // in the order of readyAt
	ask        func(place) // whether another process has a message; nil when there can be none
	out        int
	recent     recent
	ending     bool
	member     string              // this one
	who        func()              // asks for other members; nil when there can be none
	shared     bool                // there are other members
	heard      bool                // one of them said so lately
	anew       bool                // the first message of a topic may be the first that the subscription wants
	last       map[string]position // by topic
	gaps       map[string]missing  // nobody has looked at, by topic; of a subscription without other members
	idle       chan struct{}       // closed when ending and out is 0
}

func newFlow(max int, receive func(*bus.Message)) *flow {
	return &flow{
		max:     max,
		receive: receive,
		wake:    make(chan struct{}, 1),
		gapped:  make(chan struct{}, 1),
		doubt:   func(string, missing) {},
		member:  rand.Text(),
		last:    map[string]position{},
		gaps:    map[string]missing{},
		held:    map[place]*message{},
		recent:  recent{places: map[place]struct{}{}},
		idle:    make(chan struct{}),
	}
}

// begin makes the flow take only what belongs to the generation.
func (f *flow) begin(generation int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation = generation
}

// suspend forgets what was not handed over: the server, which we lost, will send it again, to us or to another process.
func (f *flow) suspend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation, f.ask, f.who = 0, nil, nil
	for _, m := range slices.Concat(f.queue, f.failed) {
		delete(f.held, m.place)
	}
	f.queue, f.failed = nil, nil
}

// take receives a message from the server. The server bounds how many are not acknowledged, and so the queue.
func (f *flow) take(generation int, sent *stan.Msg) {
	at := place{topic: sent.Subject, sequence: sent.Sequence, stored: sent.Timestamp}
	// The handle is all that an acknowledgement needs; the data is not kept for it.
	handle := &stan.Msg{MsgProto: pb.MsgProto{Subject: sent.Subject, Sequence: sent.Sequence}, Sub: sent.Sub}
	what, ask := f.admit(generation, &message{place: at, raw: sent.Data, handle: handle}, sent.Redelivered)
	switch {
	case what == acknowledged:
		_ = handle.Ack()
	case what == queued && ask != nil:
		ask(at)
	}
	f.look()
}

type admission int

const (
	known admission = iota
	acknowledged
	queued
)

// admit queues a message that is new. It returns how to ask others for it, if it is not new to the server.
func (f *flow) admit(generation int, m *message, repeated bool) (admission, func(place)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if generation != f.generation {
		return known, nil
	}
	f.follow(m.place, repeated)
	if same := f.held[m.place]; same != nil {
		same.handle = m.handle
		return known, nil
	}
	if f.recent.has(m.place) {
		return acknowledged, nil
	}
	ask := f.ask
	if !repeated {
		ask = nil
	}
	if ask != nil {
		m.readyAt = time.Now().Add(claimWithin)
	}
	f.held[m.place] = m
	f.queue = append(f.queue, m)
	return queued, ask
}

func (f *flow) look() { signal(f.wake) }

// deliver hands messages over until ctx is done.
func (f *flow) deliver(ctx context.Context) {
	for ctx.Err() == nil {
		m, wait := f.next(time.Now())
		if m != nil {
			f.receive(f.open(m))
			continue
		}
		f.await(ctx, wait)
	}
}

// await returns when there may be something to hand over; a negative wait is for ever.
func (f *flow) await(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-f.wake:
	case <-due:
	}
}

// next returns the message to hand over now, or how long to wait for one, negative when there is none.
func (f *flow) next(now time.Time) (*message, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.out >= f.max {
		return nil, -1
	}
	wait := time.Duration(-1)
	for _, list := range []*[]*message{&f.failed, &f.queue} {
		if len(*list) == 0 {
			continue
		}
		m := (*list)[0]
		until := m.readyAt.Sub(now)
		if until <= 0 {
			*list = (*list)[1:]
			m.out = true
			f.out++
			return m, 0
		}
		if wait < 0 || until < wait {
			wait = until
		}
	}
	return nil, wait
}

// open is called by one goroutine at a time, which alone looks at the content of messages.
func (f *flow) open(m *message) *bus.Message {
	stored := time.Unix(0, m.stored)
	if m.event == nil {
		m.event, m.err = event.ParseStructured(m.raw)
		if m.err != nil {
			m.event = bus.Wrap(m.topic, m.sequence, stored, m.raw)
		}
		m.raw = nil
	}
	return bus.NewMessage(bus.Message{
		Event:     m.event,
		Malformed: m.err,
		Topic:     m.topic,
		Stored:    stored,
		Sequence:  m.sequence,
	}, func(err error) { f.done(m, err) })
}

// done is what Done does.
func (f *flow) done(m *message, err error) {
	if handle := f.settle(m, err); handle != nil {
		// If it does not arrive, the server sends the message again, and it is recognised.
		_ = handle.Ack()
	}
	f.look()
}

// settle returns the handle to acknowledge, if any.
func (f *flow) settle(m *message, err error) *stan.Msg {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.out = false
	f.out--
	if f.ending && f.out == 0 {
		defer close(f.idle)
	}
	if err == nil {
		delete(f.held, m.place)
		f.recent.add(m.place)
		return m.handle
	}
	if f.ending {
		delete(f.held, m.place)
		return nil
	}
	m.readyAt = time.Now().Add(redeliverAfter)
	f.failed = append(f.failed, m)
	return nil
}

// drain waits until everything handed over is Done, or for grace, or until closing is closed. After it nothing is handed over any more.
func (f *flow) drain(grace time.Duration, closing <-chan struct{}) {
	f.mu.Lock()
	f.ending = true
	out := f.out
	f.mu.Unlock()
	if out == 0 {
		return
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-f.idle:
	case <-t.C:
	case <-closing:
	}
}

// recent remembers the places that were acknowledged last.
type recent struct {
	places map[place]struct{}
	order  []place
	next   int
}

func (r *recent) has(p place) bool {
	_, ok := r.places[p]
	return ok
}

func (r *recent) add(p place) {
	if len(r.order) < remembered {
		r.order = append(r.order, p)
	} else {
		delete(r.places, r.order[r.next])
		r.order[r.next] = p
		r.next = (r.next + 1) % remembered
	}
	r.places[p] = struct{}{}
}
