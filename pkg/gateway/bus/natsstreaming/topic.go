package natsstreaming

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// Topic returns a handler that publishes on the channel of t's name. It waits for the first connection, but not for long. It fails with
// *event.Unavailable while the server is away, and also when it went away before it acknowledged: then it may have the event.
func (b *Bus) Topic(t bus.Topic) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		if err := b.publish(ctx, t.Name, e); err != nil {
			return fmt.Errorf("publish %s to %s: %w", event.Short(e.ID()), t.Name, err)
		}
		return nil
	})
}

// publication is an event on its way to the server.
type publication struct {
	topic  string
	data   []byte
	sent   time.Time
	result chan error // has room for the one result
}

func (b *Bus) publish(ctx context.Context, topic string, e *event.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkTopic(topic); err != nil {
		return event.Permanent(err)
	}
	data, err := event.Structured(e)
	if err != nil {
		return event.Permanent(err)
	}
	s, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer b.publications.Done()

	p := &publication{topic: topic, data: data, result: make(chan error, 1)}
	err = s.publish(ctx, p)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return event.Permanent(fmt.Errorf("%w: it has %d bytes as JSON, which with the bus's envelope is more than the server's max_payload of %d: %w",
			event.ErrTooLarge, len(data), s.nc.MaxPayload(), err))
	}
	full := strings.HasSuffix(err.Error(), saysTooMany) || strings.HasSuffix(err.Error(), saysDiskFull)
	return &event.Unavailable{What: b.o.Name, After: retryAfter, Full: full, Err: err}
}

// begin returns the session to publish in; the caller ends it with publications.Done.
func (b *Bus) begin(ctx context.Context) (*session, error) {
	if err := bus.AwaitFirst(ctx, b.attempted, b.closing.Done()); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return nil, b.unavailable(errClosed)
	}
	if b.current == nil {
		return nil, b.unavailable(b.why)
	}
	b.publications.Add(1)
	return b.current, nil
}

// publish waits for room in the window, then for the server's answer.
func (s *session) publish(ctx context.Context, p *publication) error {
	room := time.NewTimer(ackTimeout)
	defer room.Stop()
	select {
	case s.window <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.lost:
		return s.err
	case <-room.C:
		return fmt.Errorf("%d events wait for the server's acknowledgement", window)
	}
	select {
	case s.requests <- p:
	case <-ctx.Done():
		<-s.window
		return ctx.Err()
	case <-s.lost:
		<-s.window
		return s.err
	case <-room.C:
		<-s.window
		return errors.New("the connection takes no more data")
	}
	room.Reset(ackTimeout + time.Second) // longer than the library's, which starts once the data is written
	select {
	case err := <-p.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-room.C:
		return errors.New("the connection takes no more data")
	case <-s.lost:
	}
	select {
	case err := <-p.result: // it came just before
		return err
	default:
		return s.err
	}
}

// send gives p to the server. The server's answer, or the lack of one in time, is p's result and makes room in the window.
func (s *session) send(p *publication) error {
	p.sent = time.Now()
	_, err := s.sc.PublishAsync(p.topic, p.data, func(_ string, err error) {
		if err != nil && err.Error() == saysInvalidPublish {
			// The topic was checked, so it is us whom the server does not know any more.
			s.lose(err)
		}
		s.finish(p, err)
	})
	if err != nil {
		s.finish(p, err)
	}
	return err
}

func (s *session) finish(p *publication, err error) {
	if errors.Is(err, stan.ErrTimeout) {
		err = s.denied.since(p.sent, p.travelsOn)
		if err == nil {
			err = fmt.Errorf("the server did not acknowledge within %s", ackTimeout)
		}
	}
	<-s.window
	p.result <- err
}

// travelsOn tells whether subject is _STAN.pub, the server's id and the topic.
func (p *publication) travelsOn(subject string) bool {
	parts := strings.SplitN(subject, ".", 4)
	return len(parts) == 4 && parts[1] == "pub" && parts[3] == p.topic
}
