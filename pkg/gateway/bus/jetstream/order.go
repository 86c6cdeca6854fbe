package jetstream

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"
)

// gatherPoll is how often the server is asked whether all has come that it waits for.
const gatherPoll = 50 * time.Millisecond

// gather waits until all is here that the server has sent and waits for. What it sent to a process that was killed, or over a connection that
// broke, it sends again after its ack wait, and so after what is new. All that comes meanwhile waits, and is then handed over in the stream's order.
func (s *subscription) gather(ctx context.Context, l *link, consumers map[*part]jetstream.Consumer, lost <-chan error) error {
	patience := time.Now().Add(2*s.b.o.Config.AckWait + settle) // there may be no room for all
	poll := time.NewTicker(gatherPoll)
	defer poll.Stop()
	for {
		complete, err := s.isComplete(ctx, consumers)
		if err != nil {
			return err
		}
		if !complete && time.Now().After(patience) {
			complete = true
			logging.FromContext(s.b.ctx).Warnw("not all that was sent before has come again in time, and may come after what is newer",
				"bus", s.b.o.Name, "subscription", s.Name)
		}
		if complete {
			s.sort()
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return s.b.why()
		case err := <-lost:
			return err
		}
	}
}

// isComplete tells whether the server waits for nothing that is not here. It does not know while something moves.
func (s *subscription) isComplete(ctx context.Context, consumers map[*part]jetstream.Consumer) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for p, c := range consumers {
		before := s.movements()
		info, err := c.Info(ctx)
		if err != nil {
			return false, s.wrapConsumer(p, err)
		}
		if s.lacks(p, info) || s.movements() != before {
			return false, nil
		}
	}
	return true, nil
}

func (s *subscription) movements() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moves
}

// lacks tells whether the server waits for more of p than is here.
func (s *subscription) lacks(p *part, info *jetstream.ConsumerInfo) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	here := 0
	for sequence := range p.held {
		if sequence <= info.Delivered.Stream { // a server that was killed may not know that it sent the rest
			here++
		}
	}
	return info.NumAckPending > here
}

// sort makes what is in the queue be handed over first, in order.
func (s *subscription) sort() {
	for {
		select {
		case d := <-s.queue:
			s.first = append(s.first, d)
			continue
		default:
		}
		slices.SortFunc(s.first, func(a, b *delivery) int {
			return cmp.Or(cmp.Compare(a.part.stream, b.part.stream), cmp.Compare(a.sequence, b.sequence))
		})
		return
	}
}
