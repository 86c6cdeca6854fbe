// Package trigger runs a subscriber: it receives a Trigger's inputs from the bus, and hands on the events that its condition fires on.
package trigger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/condition"
	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/dispatch"
	"github.com/openfunction/events/pkg/gateway/lanes"
	"github.com/openfunction/events/pkg/gateway/room"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// Options are what a Subscriber needs.
type Options struct {
	Subscriber plan.Subscriber
	Bus        bus.Bus
	// Deliver takes an event that fired. An error means that it must be delivered again.
	Deliver event.Handler
	// DeadLetter takes messages that are not events.
	DeadLetter event.Handler
	// Room bounds the bytes of those messages; nil means no bound.
	Room *room.Room
	// MaxInFlight bounds the messages that are received and not acknowledged; zero means 256. A join has room for its inputs in any case.
	MaxInFlight int
	// Redelivery is how long the bus may take, once the subscription receives, to deliver again what an earlier process held.
	Redelivery time.Duration
	// Workers run the deliveries; they are the caller's to close. Nil means a goroutine for each.
	Workers *Workers
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Subscriber is one durable subscription and the condition it fires on.
type Subscriber struct {
	o         Options
	condition *condition.Condition
	topics    map[string][]input
	lanes     lanes.Lanes // no more waits there than MaxInFlight
	log       *zap.Logger // since Run

	// mu guards what follows: the window and when it was last used.
	mu       sync.Mutex
	window   *condition.Window
	stopped  bool
	received time.Time // by our clock
	newest   time.Time // by the bus's
	attached time.Time // since when the subscription receives, by our clock; zero while it does not
	looked   time.Time // when expired did last

	// unsettled counts the messages of the window and its deliveries that are not acknowledged; delivering, the latter.
	unsettled, delivering atomic.Int32
	inFlight              sync.WaitGroup
}

type input struct {
	mask uint64
	kind string
}

// New returns a Subscriber that does nothing until Run. An error is a mistake in the plan.
func New(o Options) (*Subscriber, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 256
	}
	names := make([]string, 0, len(o.Subscriber.Inputs))
	for _, in := range o.Subscriber.Inputs {
		names = append(names, in.Name)
	}
	c, err := condition.Parse(o.Subscriber.Condition, names)
	if err != nil {
		return nil, fmt.Errorf("subscriber %s: condition: %w", o.Subscriber.ID, err)
	}
	s := &Subscriber{o: o, condition: c, topics: map[string][]input{}}
	for _, in := range o.Subscriber.Inputs {
		if mask := c.Mask(in.Name); mask != 0 {
			s.topics[in.Topic] = append(s.topics[in.Topic], input{mask: mask, kind: in.Kind})
		}
	}
	if !c.Stateless() {
		match := condition.Once
		if o.Subscriber.Match == v1alpha1.MatchLatest {
			match = condition.Latest
		}
		s.window = condition.NewWindow(c, condition.WindowOptions{Window: o.Subscriber.Window, Match: match})
		s.o.MaxInFlight = max(o.MaxInFlight, s.least())
	}
	return s, nil
}

// smallRoom is how many bytes a subscriber may hold whatever others hold: as long as events are small, none waits for another's.
const smallRoom = 1 << 20

// held is how many messages must find room whatever their size: those that a join waits with, and one more.
func (s *Subscriber) held() int {
	if s.window == nil {
		return 1
	}
	return s.least()
}

// least is how many messages a join must have room for: each topic's held ones and the next, on a bus that gives topics equal shares.
func (s *Subscriber) least() int {
	most := 0
	for _, inputs := range s.topics {
		most = max(most, len(inputs))
	}
	return len(s.topics) * (most + 1)
}

// Subscription is the durable subscription that s receives from.
func (s *Subscriber) Subscription() bus.Subscription {
	sub := bus.Subscription{Name: s.o.Subscriber.ID, MaxInFlight: s.o.MaxInFlight, Ordered: s.o.Subscriber.Delivery.KeyOrder}
	seen := map[string]bool{}
	for _, in := range s.o.Subscriber.Inputs { // in the plan's order, which is stable
		if _, used := s.topics[in.Topic]; used && !seen[in.Topic] {
			seen[in.Topic] = true
			sub.Topics = append(sub.Topics, in.Topic)
		}
	}
	return sub
}

// Run receives and delivers until ctx is done; then it lets attempts under way finish, leaves everything else on the bus, and returns nil.
// It calls ready as bus.Subscription.Ready says.
func (s *Subscriber) Run(ctx context.Context, ready func(error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.inFlight.Wait()
	defer cancel()
	s.log = logging.FromContext(ctx).Desugar()
	if s.window != nil {
		s.inFlight.Go(func() { s.expire(ctx) })
		s.inFlight.Go(func() {
			<-ctx.Done()
			s.letGo()
		})
	}
	sub := s.Subscription()
	sub.Room = s.o.Room.Share(smallRoom, s.held())
	defer sub.Room.Close()
	sub.Ready = func(err error) {
		s.attach(err == nil)
		if ready != nil {
			ready(err)
		}
	}
	return s.o.Bus.Subscribe(ctx, sub, func(m *bus.Message) { s.receive(ctx, m) })
}

func (s *Subscriber) attach(receives bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached = time.Time{}
	if receives {
		s.attached = s.o.Now()
	}
}

// receive decides what becomes of a message. The bus calls it for one message after the other; it never blocks on a delivery.
func (s *Subscriber) receive(ctx context.Context, m *bus.Message) {
	if m.Malformed != nil {
		s.start(func() { s.bury(ctx, m) })
		return
	}
	arrived := s.arrived(m)
	switch {
	case arrived != 0 && s.window != nil:
		s.join(ctx, m, arrived)
	case s.condition.Fires(arrived, m.Event):
		s.begin(ctx, m.Event, func() error { return s.fire(ctx, m, arrived) }, m.Done)
	default:
		s.sayNothingFired(m.Event)
		m.Done(nil)
	}
}

// sayNothingFired costs nothing unless the log shows debug.
func (s *Subscriber) sayNothingFired(e *event.Event) {
	if line := s.log.Check(zap.DebugLevel, "event fired nothing"); line != nil {
		line.Write(zap.String("trigger", s.o.Subscriber.Trigger), zap.String("id", event.Short(e.ID())), zap.Stringer("condition", s.condition))
	}
}

// start runs f, and Run waits for it. The bus bounds how many there are: it hands over no more than MaxInFlight messages that are not Done.
func (s *Subscriber) start(f func()) {
	if s.o.Workers == nil {
		s.inFlight.Go(f)
		return
	}
	s.inFlight.Add(1)
	s.o.Workers.Go(func() {
		defer s.inFlight.Done()
		f()
	})
}

func (s *Subscriber) arrived(m *bus.Message) (mask uint64) {
	for _, in := range s.topics[m.Topic] {
		if in.kind == "" || m.Event.Extensions()[source.KindExtension] == in.kind {
			mask |= in.mask
		}
	}
	return mask
}

func (s *Subscriber) bury(ctx context.Context, m *bus.Message) {
	err := fmt.Errorf("topic %s: %w", m.Topic, m.Malformed)
	failed := s.o.DeadLetter.Handle(ctx, dispatch.Letter(m.Event, "topic "+m.Topic, err))
	if failed == nil {
		logging.FromContext(ctx).Warnw("message is not an event, dead-lettered", "topic", m.Topic, "id", event.Short(m.Event.ID()), "error", m.Malformed)
	}
	m.Done(failed)
}

func (s *Subscriber) deliver(ctx context.Context, e *event.Event) error {
	err := s.o.Deliver.Handle(ctx, e)
	if err != nil && !errors.Is(err, dispatch.ErrStopped) {
		logging.FromContext(ctx).Warnw("event stays on the bus", "id", event.Short(e.ID()), "type", event.Short(e.Type()), "error", err)
	}
	return err
}

// fire delivers a message that fires by itself.
func (s *Subscriber) fire(ctx context.Context, m *bus.Message, arrived uint64) error {
	if !s.o.Subscriber.All {
		return s.deliver(ctx, m.Event)
	}
	a := condition.Arrival{Inputs: arrived, Event: m.Event, Stored: m.Stored}
	return s.deliverFiring(ctx, condition.Firing{Arrived: a, Matched: []condition.Arrival{a}})
}

func (s *Subscriber) deliverFiring(ctx context.Context, f condition.Firing) error {
	if !s.o.Subscriber.All {
		return s.deliver(ctx, f.Arrived.Event)
	}
	e, err := condition.All(f, s.o.Subscriber.Trigger, s.condition.Inputs())
	if err != nil {
		return err
	}
	return s.deliver(ctx, e)
}

// held is a message that is acknowledged when nobody needs it any more: not the window, and no delivery that it takes part in.
type held struct {
	s     *Subscriber
	m     *bus.Message
	users atomic.Int32

	mu  sync.Mutex
	err error
}

// release takes one user away. An error of any user makes the bus send the message again.
func (h *held) release(err error) {
	if err != nil {
		h.mu.Lock()
		h.err = err
		h.mu.Unlock()
	}
	if h.users.Add(-1) == 0 {
		h.s.unsettled.Add(-1)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.m.Done(h.err)
	}
}

// join puts a message into the window and delivers what fires.
func (s *Subscriber) join(ctx context.Context, m *bus.Message, arrived uint64) {
	h := &held{s: s, m: m}
	h.users.Store(2) // the window, and this function until it has counted the deliveries
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		m.Done(dispatch.ErrStopped)
		return
	}
	s.unsettled.Add(1)
	s.received = s.o.Now()
	if m.Stored.After(s.newest) {
		s.newest = m.Stored
	}
	result := s.window.Arrive(condition.Arrival{Inputs: arrived, Event: m.Event, Stored: m.Stored, Sequence: m.Sequence, Ref: h})
	for _, f := range result.Fired {
		for _, a := range f.Matched {
			a.Ref.(*held).users.Add(1)
		}
	}
	s.mu.Unlock()
	if len(result.Fired) == 0 {
		s.sayNothingFired(m.Event)
	}
	for _, f := range result.Fired {
		s.delivering.Add(1)
		s.begin(ctx, f.Arrived.Event, func() error { return s.deliverFiring(ctx, f) }, func(err error) {
			s.delivering.Add(-1)
			for _, a := range f.Matched {
				a.Ref.(*held).release(err)
			}
		})
	}
	releaseAll(result.Released, nil)
	h.release(nil)
}

func releaseAll(arrivals []condition.Arrival, err error) {
	for _, a := range arrivals {
		a.Ref.(*held).release(err)
	}
}

// idle is how long nothing must have arrived before our clock, and not the newest message's time, says what has expired:
// with a backlog, messages are older than they look.
const idle = time.Second

// expire lets go of what no arrival can match any more.
func (s *Subscriber) expire(ctx context.Context) {
	ticker := time.NewTicker(idle)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			releaseAll(s.expired(), nil)
		}
	}
}

func (s *Subscriber) expired() []condition.Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	now, at := s.newest, s.o.Now()
	if at.Sub(s.looked) > 2*idle {
		s.received = at // the process was suspended: what came meanwhile is still to be read
	}
	s.looked = at
	if s.quiet(at) {
		now = at
	}
	return s.window.Expire(now)
}

// quiet tells whether nothing that the bus has stored so far is still to come, as far as one can know: it is there and has delivered
// what it had to deliver again, nothing has come for a while, and not because deliveries keep their topic from sending more.
func (s *Subscriber) quiet(at time.Time) bool {
	if s.attached.IsZero() || at.Sub(s.attached) < max(idle, s.o.Redelivery) || at.Sub(s.received) < idle {
		return false
	}
	return s.delivering.Load() == 0 || int(s.unsettled.Load()) < s.o.MaxInFlight/len(s.topics)
}

// letGo leaves what the window holds on the bus, for the next process to join.
func (s *Subscriber) letGo() {
	s.mu.Lock()
	s.stopped = true
	heldNow := s.window.Held()
	s.mu.Unlock()
	releaseAll(heldNow, dispatch.ErrStopped)
}
