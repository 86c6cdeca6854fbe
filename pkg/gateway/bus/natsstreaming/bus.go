// Package natsstreaming is a bus on a NATS Streaming server: structured CloudEvents JSON on one channel per topic.
package natsstreaming

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
	"github.com/openfunction/events/pkg/plan"
)

var _ bus.Bus = (*Bus)(nil)

// Options are what a Bus needs.
type Options struct {
	// Name is what messages call the bus, for example EventBus default/default.
	Name   string
	Config plan.NATSStreaming
	// Dial makes the connections to the server; nil means a net.Dialer's. The address may hold a host name.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Instance tells this process apart from others on the bus, and stays the same when it restarts: the server then hands over
	// to the new process at once, and durable subscriptions of the type topic go on. Empty means a random one.
	Instance string
	// Before is closed once the bus is closed, in this process, that this one takes the place of: until then that has the client id, which is
	// nothing to tell. Nil means that there is none.
	Before <-chan struct{}
}

// Bus is a bus.Bus on a NATS Streaming server. What the server cannot do, it does not promise:
//
//   - The server drops no duplicates, so that Topic.Origin is of no use to it; see package once.
//   - An event and its envelope must fit in the server's max_payload, 1 MiB unless it was raised; data that is neither JSON
//     nor text grows by a third, since it travels as base64. What does not fit is refused with a permanent error.
//     Raise max_payload (8MB is the most the server likes) where larger events are wanted.
//   - A channel at its store limits discards its oldest messages, acknowledged or not. Size the limits for the longest outage. A subscription
//     of one process notices that messages it was never sent are gone, and says so; others say what may be gone.
//   - There is no way to tell the server that a message is still worked on: it sends it again after the ack wait, in a queue
//     group to any process. Whoever gets a repeat asks the others on plain NATS, and leaves the message to the one that has it.
//     Only while that one is cut off, or where the server's permissions forbid to ask, is the message handed over twice.
type Bus struct {
	o   Options
	log *zap.SugaredLogger

	first     sync.Once
	attempted chan struct{} // closed when it is known whether the first connection succeeded or failed

	mu      sync.Mutex
	id      identity
	current *session             // nil while the server is away
	why     error                // why it is away
	changed chan struct{}        // closed and replaced when current changes
	denied  *natsaccess.Denial   // what the last session was lost by, until another one has it
	mute    sync.Once            // says that members cannot talk to each other
	ending  bool                 // no more subscriptions
	ended   bool                 // no more publications
	losses  map[string]time.Time // by what Losing says, the last one
	doubts  doubts               // nobody has looked at
	doubted chan struct{}        // has room for one: look at doubts

	subscriptions sync.WaitGroup
	publications  sync.WaitGroup
	closing       context.Context // done when Close begins
	beginClosing  context.CancelFunc
	once          sync.Once
	stop          context.CancelFunc
	done          chan struct{}
}

// New returns a Bus that connects in the background until Close. From ctx it takes only the logger.
func New(ctx context.Context, o Options) *Bus {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	closing, beginClosing := context.WithCancel(ctx)
	b := &Bus{
		o:            o,
		log:          logging.FromContext(ctx).With("bus", o.Name),
		id:           newIdentity(o),
		attempted:    make(chan struct{}),
		why:          bus.ErrConnecting,
		changed:      make(chan struct{}),
		losses:       map[string]time.Time{},
		doubts:       doubts{},
		doubted:      make(chan struct{}, 1),
		closing:      closing,
		beginClosing: beginClosing,
		stop:         stop,
		done:         make(chan struct{}),
	}
	go b.run(ctx)
	return b
}

// Ready returns nil while the server answers.
func (b *Bus) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil && !b.current.isLost() {
		return nil
	}
	return b.unavailable(b.why)
}

// Close ends the subscriptions without grace, waits for publications under way, and disconnects.
func (b *Bus) Close() error {
	b.once.Do(func() {
		b.mu.Lock()
		b.ending = true
		b.mu.Unlock()
		b.beginClosing()
		b.subscriptions.Wait()

		b.mu.Lock()
		b.ended = true
		b.mu.Unlock()
		b.publications.Wait()

		b.stop()
		<-b.done
	})
	return nil
}

// Retries of the connection wait from retryMin to retryMax.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 2 * time.Second
	// deniedMax is for what a person has to cure: the server logs every try.
	deniedMax = 10 * time.Second
	// firstTaken is how often it is no failure, at first, that another live client has our id: the server may still work on the end of that.
	firstTaken = 2
)

// run connects, serves publications and connects again, until ctx is done.
func (b *Bus) run(ctx context.Context) {
	defer close(b.done)
	var resolving sync.WaitGroup
	defer resolving.Wait()
	resolving.Go(func() { b.resolve(ctx) })
	logged := false // that the server is away
	wait := retryMin
	for free := firstTaken; ctx.Err() == nil; {
		inherits := b.inherits() // asked first: the bus before may be closed meanwhile
		s, err := b.connect(ctx, inherits)
		if errors.Is(err, errTaken) && (inherits || free > 0) {
			if !inherits {
				free--
			}
			pause(ctx, retryMin)
			continue
		}
		free = 0
		if err == nil {
			b.log.Infow("event bus connected", "url", plan.HideURL(b.o.Config.URL), "client", s.id)
			logged, wait = false, retryMin
			b.remember(nil)
			b.become(s, nil)
			if err = s.serve(ctx); errors.Is(err, nats.ErrPermissionViolation) {
				err = b.connectError(err) // which is what the next attempts say
			}
			b.become(nil, err)
			s.close()
		} else {
			b.become(nil, err)
		}
		if ctx.Err() != nil {
			break
		}
		limit := retryMax
		if errors.Is(err, nats.ErrPermissionViolation) {
			limit = deniedMax
		}
		b.remember(err)
		if !logged {
			b.log.Warnw("event bus is away, connecting until it is back", zap.Error(err))
			logged = true
		}
		pause(ctx, wait/2+rand.N(wait/2))
		wait = min(2*wait, limit)
	}
	b.become(nil, errClosed)
}

// inherits tells whether the bus before, with other credentials, is still there.
func (b *Bus) inherits() bool {
	select {
	case <-b.o.Before:
		return false
	default:
		return b.o.Before != nil
	}
}

var errClosed = errors.New("the bus is closed")

func (b *Bus) become(s *session, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current, b.why = s, why
	b.first.Do(func() { close(b.attempted) })
	close(b.changed)
	b.changed = make(chan struct{})
}

// session returns the session once there is one, or nil when ctx is done.
func (b *Bus) session(ctx context.Context) *session {
	for {
		b.mu.Lock()
		s, changed := b.current, b.changed
		b.mu.Unlock()
		if s != nil && !s.isLost() {
			return s
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// retryAfter is what publishers are told to wait while the server is away.
const retryAfter = time.Second

func (b *Bus) unavailable(why error) error {
	return &event.Unavailable{What: b.o.Name, After: retryAfter, Err: why}
}

// checkTopic says what the server's answer would be, but in words and without asking it.
func checkTopic(name string) error {
	const hint = "want tokens joined by dots, without '/', '*', '>' and white space"
	if name == "" || strings.ContainsAny(name, "/*> \t\r\n\x00") {
		return fmt.Errorf("topic %q: not a NATS Streaming channel name: %s", name, hint)
	}
	for token := range strings.SplitSeq(name, ".") {
		if token == "" {
			return fmt.Errorf("topic %q: not a NATS Streaming channel name: %s", name, hint)
		}
	}
	return nil
}

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
