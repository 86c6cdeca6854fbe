package jetstream

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"
)

// gatherPoll is how soon the server is asked whether all has come that it waits for; each time that nothing came, it doubles up to gatherPollMost.
const (
	gatherPoll     = 50 * time.Millisecond
	gatherPollMost = time.Second
)

// gatherLimit is how many messages the server may have under way while a subscription gathers: nothing new, as there is what was sent before.
const gatherLimit = 1

// patience is how long gather waits at most.
func patience(ackWait time.Duration) time.Duration { return 2*ackWait + settle }

// OrderedRedelivery is how long an ordered subscription that is attached may take to hand over what an earlier process held.
func OrderedRedelivery(ackWait time.Duration) time.Duration {
	return patience(ackWait) + settle // for what is asked of the server
}

// gather waits until all is here that the server sent before and waits for. What it sent to a process that was killed, or over a connection that
// broke, it sends again after its ack wait, in any order, and nothing new before. All is then handed over in the stream's order.
func (s *subscription) gather(ctx context.Context, l *link, consumers map[*part]jetstream.Consumer, lost <-chan error) error {
	maps.DeleteFunc(consumers, func(p *part, _ jetstream.Consumer) bool { return !s.gathers(p) })
	if len(consumers) == 0 {
		return nil
	}
	enough := time.NewTimer(patience(s.b.o.Config.AckWait)) // another process may still work on some
	defer enough.Stop()
	wait := gatherPoll
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case d := <-s.queue:
			s.first = append(s.first, d)
			wait = gatherPoll
			poll.Reset(wait)
		case <-poll.C:
			complete, err := s.isComplete(ctx, consumers)
			if err != nil {
				return err
			}
			if complete {
				return s.proceed(ctx, l, consumers)
			}
			poll.Reset(wait)
			wait = min(2*wait, gatherPollMost)
		case <-enough.C:
			logging.FromContext(s.b.ctx).Warnw("not all that was sent before has come again in time, and may come after what is newer",
				"bus", s.b.o.Name, "subscription", s.Name)
			return s.proceed(ctx, l, consumers)
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return s.b.why()
		case err := <-lost:
			return err
		}
	}
}

func (s *subscription) gathers(p *part) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.gathering
}

// isComplete tells whether the server waits for nothing that is not here.
func (s *subscription) isComplete(ctx context.Context, consumers map[*part]jetstream.Consumer) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for p, c := range consumers {
		info, err := c.Info(ctx)
		if err != nil {
			return false, s.wrapConsumer(p, err)
		}
		if s.lacks(p, info) {
			return false, nil
		}
	}
	return true, nil
}

// lacks tells whether the server waits for more of p than is handed over or in first.
func (s *subscription) lacks(p *part, info *jetstream.ConsumerInfo) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	here := 0
	count := func(d *delivery) {
		if d.part == p && d.sequence <= info.Delivered.Stream { // a server that was killed may not know that it sent the rest
			here++
		}
	}
	for _, d := range p.held {
		if d.handed {
			count(d)
		}
	}
	for _, d := range s.first {
		count(d)
	}
	return info.NumAckPending > here
}

// proceed makes what has come be handed over first, in order, and the server send what is new.
func (s *subscription) proceed(ctx context.Context, l *link, consumers map[*part]jetstream.Consumer) error {
	for len(s.queue) > 0 { // nobody else receives from it
		s.first = append(s.first, <-s.queue)
	}
	slices.SortFunc(s.first, func(a, b *delivery) int {
		return cmp.Or(cmp.Compare(a.part.stream, b.part.stream), cmp.Compare(a.sequence, b.sequence))
	})
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for p := range consumers {
		s.mu.Lock()
		p.gathering = false
		s.mu.Unlock()
		if err := s.lift(ctx, l, p.stream); err != nil {
			return s.wrapConsumer(p, err)
		}
		p.limited = false
	}
	return nil
}

// lift takes gatherLimit away, if the server's consumer has it, and leaves alone what others may have changed meanwhile.
func (s *subscription) lift(ctx context.Context, l *link, stream string) error {
	c, err := l.js.Consumer(ctx, stream, s.Name)
	if err != nil {
		return err
	}
	config := c.CachedInfo().Config
	if config.MaxAckPending != gatherLimit || s.MaxInFlight == gatherLimit {
		return nil
	}
	config.MaxAckPending = s.MaxInFlight
	_, err = l.js.UpdateConsumer(ctx, stream, config)
	return err
}

// unlimit lifts what a session that ends has left, when it receives no more: another process may go on, and this one may not come back.
func (s *subscription) unlimit(ctx context.Context, l *link) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	for _, p := range s.parts {
		if p.limited && s.lift(ctx, l, p.stream) == nil { // otherwise whoever attaches next does it, or whoever goes on: see keepUnlimited
			p.limited = false
		}
	}
}

// gatherAtMost is how long a process that lives may leave gatherLimit: it attaches, gathers and lifts it.
func gatherAtMost(ackWait time.Duration) time.Duration {
	return 2*requestTimeout + patience(ackWait) + requestTimeout
}

// keepUnlimited looks every now and then, as long as messages come or are held, whether another process has begun to gather and did not live to
// end it: that takes no longer than gatherAtMost.
func (s *subscription) keepUnlimited(ctx context.Context, l *link) {
	timer := time.NewTimer(s.b.lookEvery)
	defer timer.Stop()
	seen := looked{}
	for {
		select {
		case <-timer.C:
			seen = s.lookAgain(ctx, l, seen)
			timer.Reset(s.b.lookEvery) // no sooner, however long the look took
		case <-ctx.Done():
			return
		}
	}
}

// looked are the streams at one look.
type looked struct {
	limited map[string]bool   // their consumers had gatherLimit
	last    map[string]uint64 // sequences
}

// lookAgain looks at the streams that move. Of what did not move at the look before nothing is known: that limit may have ended since, and this be another.
func (s *subscription) lookAgain(ctx context.Context, l *link, before looked) looked {
	now := looked{map[string]bool{}, maps.Clone(before.last)}
	if now.last == nil {
		now.last = map[string]uint64{}
	}
	for stream, sequence := range s.moving(before.last) {
		now.last[stream] = sequence
		now.limited[stream] = s.look(ctx, l, stream, before.limited[stream])
	}
	return now
}

// moving returns the last sequence of each stream of which something is held, or has come since last.
func (s *subscription) moving(last map[string]uint64) map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	moving := map[string]uint64{}
	for stream, p := range s.parts {
		if len(p.held) > 0 || p.last != last[stream] {
			moving[stream] = p.last
		}
	}
	return moving
}

// look tells whether the server's consumer has gatherLimit, which it lifts if it had it the last time as well.
func (s *subscription) look(ctx context.Context, l *link, stream string, before bool) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := l.js.Consumer(ctx, stream, s.Name)
	if err != nil || c.CachedInfo().Config.MaxAckPending != gatherLimit {
		return false // a consumer that is gone is noticed elsewhere
	}
	return !before || s.lift(ctx, l, stream) != nil
}
