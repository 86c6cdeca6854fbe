package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	// again is after how long a message that failed is sent again.
	again = time.Second
	// reattach is the pause after a consumer was lost.
	reattach = 250 * time.Millisecond
	// settle bounds the wait for messages that are on their way when receiving ends.
	settle = 2 * time.Second
)

// subscription is one running Subscribe. Its life is a row of sessions, one for each time of being attached to the server's consumers;
// what it holds lives on from one to the next.
type subscription struct {
	bus.Subscription
	b       *Bus
	began   time.Time
	receive func(*bus.Message)
	queue   chan *delivery
	slots   chan struct{} // one in it for each message handed over and not Done
	parts   map[string]*part
	first   []*delivery // is handed over before what is in queue; used by run's goroutine only, as are
	refused string      // the subject of an acknowledgement that was denied
	reports bus.Reports

	mu     sync.Mutex
	ending bool
	handed int
	idle   chan struct{} // has room for one; told when handed becomes 0
}

// delivery is a message that the server waits for.
type delivery struct {
	part     *part
	topic    string
	sequence uint64
	stored   time.Time
	event    *event.Event
	err      error
	size     int64 // of its room

	msg    jetstream.Msg // the server's latest copy; under the subscription's lock
	handed bool          // under the subscription's lock
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(ctx context.Context, s bus.Subscription, receive func(*bus.Message)) error {
	if err := s.Validate(); err != nil {
		return err
	}
	for _, t := range s.Topics {
		if err := checkTopic(t); err != nil {
			return fmt.Errorf("subscription %s: %w", s.Name, err)
		}
	}
	if !b.begin() {
		return fmt.Errorf("subscribe %s: %w", s.Name, errClosed)
	}
	defer b.running.Done()
	s.MaxInFlight, s.Grace = cmp.Or(s.MaxInFlight, b.o.Config.MaxInFlight), cmp.Or(s.Grace, bus.DefaultGrace)
	s.Topics = slices.Compact(slices.Sorted(slices.Values(s.Topics)))
	sub := &subscription{
		Subscription: s, b: b, began: time.Now(), receive: receive,
		queue: make(chan *delivery, s.MaxInFlight),
		slots: make(chan struct{}, s.MaxInFlight),
		parts: map[string]*part{},
		idle:  make(chan struct{}, 1),
	}
	sub.reports = bus.Reports{Bus: b, Subscription: s, Log: logging.FromContext(b.ctx).With("bus", b.o.Name)}
	sub.run(ctx)
	return nil
}

// run attaches again and again until ctx is done or the bus is closed.
func (s *subscription) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.b.ctx, cancel)()
	alive, dead := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(alive)
		s.keepAlive(dead)
	}()
	_, end := s.b.watch(ctx, s.concerns) // what is denied between two sessions is said by the next one
	defer end()
	var pause backoff
	for ctx.Err() == nil {
		s.reports.Await()
		l := s.b.await(ctx)
		if l == nil {
			break
		}
		err := s.session(ctx, l)
		if ctx.Err() != nil {
			break
		}
		s.reports.Report(refused(err))
		s.pause(ctx, pause.after(err, reattach))
	}
	s.reports.End()
	s.drain()
	close(dead)
	<-alive
}

func (s *subscription) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// session attaches to the server and hands messages over until ctx is done, the link is lost or a consumer is.
func (s *subscription) session(ctx context.Context, l *link) error {
	lost := make(chan error, 1)
	closed := make(chan struct{})
	watched, end := s.b.watch(ctx, s.concerns)
	defer end()
	consumers, consuming, err := s.attach(watched, l, func(p *part) (jetstream.MessageHandler, jetstream.ConsumeErrHandler) {
		return func(m jetstream.Msg) { s.take(p, m, closed) }, s.onError(lost)
	})
	defer s.unlimit(ctx, l)
	defer s.detach(ctx, l, consuming)
	defer close(closed)
	if err != nil {
		return s.whyDenied(watched, err)
	}
	s.refused = ""
	s.reports.Report(nil)
	if s.Ordered {
		if err := s.gather(watched, l, consumers, lost); err != nil {
			return s.whyDenied(watched, err)
		}
		looking, stop := context.WithCancel(ctx)
		var looks sync.WaitGroup
		looks.Go(func() { s.keepUnlimited(looking, l) })
		defer looks.Wait()
		defer stop()
	}
	return s.whyDenied(watched, s.handOver(watched, l, lost))
}

// handOver calls receive, never with more than MaxInFlight messages that are not Done.
func (s *subscription) handOver(ctx context.Context, l *link, lost <-chan error) error {
	slots := s.slots
	var queue chan *delivery // nil until there is a slot for what comes from it
	defer func() {
		if queue != nil {
			<-s.slots // a slot without a message
		}
	}()
	for {
		select {
		case slots <- struct{}{}:
			if len(s.first) > 0 {
				s.hand(s.first[0])
				s.first = s.first[1:]
				continue
			}
			slots, queue = nil, s.queue
		case d := <-queue:
			slots, queue = s.slots, nil
			s.hand(d)
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return s.b.why()
		case err := <-lost:
			return err
		}
	}
}
