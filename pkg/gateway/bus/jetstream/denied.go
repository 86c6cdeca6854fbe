package jetstream

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
)

// grants are what the user of the bus needs, besides the topics of subscribers; docs/spec/eventbus.md has the same.
var grants = natsaccess.Grants{
	Publish: []string{
		"openfunction.>", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*",
		"$JS.API.CONSUMER.INFO.*.*", "$JS.API.CONSUMER.CREATE.*.*", "$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.CONSUMER.DELETE.*.*", "$JS.ACK.>",
	},
	Subscribe: []string{"_INBOX.>"},
}

const (
	// deniedMin and deniedMax bound the pause before what the server did not permit is tried again: it logs every try.
	deniedMin = 250 * time.Millisecond
	deniedMax = 10 * time.Second
)

// watch is somebody who waits for what the server does not answer if it does not permit it.
type watch struct {
	concerns func(subject string) bool
	cancel   context.CancelCauseFunc
}

// watch returns a context that is also done, with a *natsaccess.Denial as its cause, when the server says that it does not permit to publish
// on a subject that concerns accepts, or to receive answers. Call end.
func (b *Bus) watch(ctx context.Context, concerns func(subject string) bool) (watched context.Context, end func()) {
	watched, cancel := context.WithCancelCause(ctx)
	w := &watch{concerns, cancel}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deaf != nil {
		cancel(b.deaf)
	}
	b.watches[w] = struct{}{}
	return watched, func() {
		b.mu.Lock()
		delete(b.watches, w)
		b.mu.Unlock()
		cancel(nil)
	}
}

// whyDenied returns why the server did not answer a request that ended with err, if it does not permit it; else err.
func whyDenied(watched context.Context, err error) error {
	if denied := (*natsaccess.Denial)(nil); err != nil && errors.As(context.Cause(watched), &denied) {
		return denied
	}
	return err
}

// deny tells those whom it concerns that the server does not permit something.
func (b *Bus) deny(d *natsaccess.Denial) {
	told := d.Subscribe // by maintain, which looks at it
	b.mu.Lock()
	if d.Subscribe {
		b.deaf = d
	}
	for w := range b.watches {
		if d.Subscribe || w.concerns(d.Subject) {
			w.cancel(d)
			told = true
		}
	}
	b.mu.Unlock()
	if d.Subscribe {
		b.tell()
	} else if l := b.current.Load(); l != nil && l.pub.deny(d.Subject, d) {
		told = true
	}
	if told {
		return
	}
	if _, known := b.told.LoadOrStore("denied "+d.Cure(), true); !known {
		logging.FromContext(b.ctx).Warnw("the bus is not permitted what it needs", "bus", b.o.Name, "error", d)
	}
}

func (b *Bus) denial(err error) *natsaccess.Denial {
	return natsaccess.Denied(b.o.Config.NATSAccess, b.o.Config.URL, grants, err)
}

// isDeaf returns what keeps answers from us on the connection, or nil.
func (b *Bus) isDeaf() *natsaccess.Denial {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.deaf
}

// listen connects anew, which subscribes to answers again: the server has dropped what it did not permit.
func (b *Bus) listen(nc *nats.Conn) {
	b.mu.Lock()
	b.deaf = nil
	b.mu.Unlock()
	if err := nc.ForceReconnect(); err != nil {
		b.lose(err)
	}
}

// backoff is the pause before the next try.
type backoff struct{ next time.Duration }

// after returns the pause after err: a growing one while the server does not permit something, and otherwise usual.
func (p *backoff) after(err error, usual time.Duration) time.Duration {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		p.next = 0
		return usual
	}
	p.next = min(max(2*p.next, deniedMin), deniedMax)
	return p.next
}

// refused marks err, of a session, if it is an answer that the next try will most likely have too.
func refused(err error) error {
	switch {
	case code(err) == codeUnavailable, code(err) == codeNoLeader:
	case code(err) != 0, errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, jetstream.ErrConsumerDeleted):
		return bus.Refused(err)
	}
	return err
}

// concernsStream tells whether subject is a request to the server about the stream or, if name is not empty, its consumer of that name.
func concernsStream(subject, stream, name string) bool {
	if name == "" {
		return strings.HasPrefix(subject, "$JS.API.STREAM.") && strings.HasSuffix(subject, "."+stream)
	}
	return strings.HasPrefix(subject, "$JS.") && strings.Contains(subject+".", "."+stream+"."+name+".")
}

// concerns tells whether the subscription cannot go on without subject.
func (s *subscription) concerns(subject string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for stream := range s.parts {
		if concernsStream(subject, stream, s.Name) || subject == "$JS.API.STREAM.INFO."+stream {
			return true
		}
	}
	return false
}

// whyDenied is whyDenied for a session, which remembers how acknowledgements are called that are denied.
func (s *subscription) whyDenied(watched context.Context, err error) error {
	err = whyDenied(watched, err)
	if d := (*natsaccess.Denial)(nil); errors.As(err, &d) && strings.HasPrefix(d.Subject, "$JS.ACK.") {
		s.refused = d.Subject
	}
	return err
}

// examine asks the consumer for messages and acknowledges one, both without effect, to see whether that is permitted. Nobody would answer
// what is not: no message would come, or each again and again.
func (s *subscription) examine(ctx context.Context, l *link, p *part) error {
	const none = "9223372036854775807" // the sequence of no message
	type request struct{ subject, data string }
	requests := []request{
		{"$JS.API.CONSUMER.MSG.NEXT." + p.stream + "." + s.Name, "{"}, // a bad request, which the server says
		{"$JS.ACK." + p.stream + "." + s.Name + ".1." + none + ".1.0.0", "+WPI"},
	}
	if concernsStream(s.refused, p.stream, s.Name) { // it may have another form
		requests = append(requests, request{s.refused, "+WPI"})
	}
	for _, r := range requests {
		_, err := l.nc.RequestWithContext(ctx, r.subject, []byte(r.data))
		if errors.Is(err, nats.ErrNoResponders) {
			return errNoConsumer
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errNoConsumer = errors.New("the consumer does not answer")
