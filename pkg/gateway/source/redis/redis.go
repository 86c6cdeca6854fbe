// Package redis is the event source that reads a Redis stream as a consumer of a group, takes what is pushed to a list, or subscribes to
// channels.
//
// Streams and lists are read at least once: an entry is acknowledged, or removed, only after it was taken. Several are handed on at
// once, since each is acknowledged for itself; the order in which they arrive is that of reading, not kept beyond that. What a process
// held when it died is handed on again: by itself when it is started again under its name, otherwise by another process of the group, or
// of the list, after the processing timeout.
//
// A list is read at its left end: producers append with RPUSH. What is being handled stands in a list of its own, one per process,
// whose key is made of the list's: {orders}:processing:NAME for a list orders.
//
// Channels are at most once, as Redis delivers them: what is published while nobody is subscribed, or while more waits than the
// queue holds because the bus or the sink is away, is lost. How much of the latter is logged.
package redis

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// Options are what a Source needs.
type Options struct {
	// Source is the event to read; its Redis is set.
	Source plan.Source
	// Dial makes every connection, also to the addresses that Sentinels and clusters name. Nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Instance tells this process apart from others that read the same, and stays the same when it restarts.
	Instance string
}

// Source reads entries of Redis and hands them on as events; see the package for what is promised.
type Source struct {
	o      Options
	redis  *plan.Redis
	source types.URIRef
}

var _ source.Source = (*Source)(nil)

// New returns a Source that does nothing until Run.
func New(o Options) *Source {
	if o.Instance == "" {
		o.Instance = "openfunction-events"
	}
	uri := plan.SourceURI(o.Source.Namespace, o.Source.EventSource, o.Source.Event)
	return &Source{o: o, redis: o.Source.Redis, source: *types.ParseURIRef(uri)}
}

// How long to wait before another attempt: at first, and at most. Servers come back at once.
const (
	firstWait     = 200 * time.Millisecond
	maxServerWait = 5 * time.Second
)

// drainTimeout bounds how long handlers may go on once Run's context is done, stopTimeout how long Redis may take after that.
const (
	drainTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
)

// maxBlock bounds how long a read waits for something new: that is how late a stop or a heartbeat may be.
const maxBlock = time.Second

// reader is a way to read. Its methods are called by one goroutine.
type reader interface {
	// open sees to it that nothing is missed from then on.
	open(ctx context.Context) error
	// recover hands on what this process was given before, but does not hold: after a start, and after an answer may have been lost.
	recover(ctx context.Context) error
	// read hands on what is new. It waits for that, but not for long.
	read(ctx context.Context) error
	// keep tells the server that what is held is being worked on.
	keep(ctx context.Context) error
	// takeOver hands on what processes held that are gone.
	takeOver(ctx context.Context) error
	// leave waits for the handlers and gives back what they did not take.
	leave(ctx context.Context)
}

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, next event.Handler, ready func(error)) error {
	d, err := newDialer(s.o.Dial, s.redis.TLS)
	if err != nil {
		return fmt.Errorf("redis %s: tls: %w", s.where(), err)
	}
	ctx = context.WithValue(ctx, redactKey{}, s.redact)
	// What is in flight when ctx is done is acknowledged after that.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	redis.SetLogger(clientLogger{})
	client := s.client(d)
	defer client.Close()
	way, name := s.what()
	r := &run{
		Source: s, client: client, dialer: d, ready: ready,
		log: logging.FromContext(ctx).With("redis", s.where(), way, name),
	}
	r.hands = hands{ctx: ctx, work: work, handover: source.Handover{Next: next, Log: r.log}, slots: make(chan struct{}, maxInFlight), bytes: semaphore.NewWeighted(maxBytes)}
	r.tick = min(s.redis.RedeliverInterval, s.redis.ProcessingTimeout/3)
	r.reader = r.newReader()
	r.hands.every, r.hands.idle = r.tick, func() { r.stay(ctx) }

	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(drainTimeout, cut)
		// The client waits for answers without a context.
		time.AfterFunc(drainTimeout+stopTimeout, func() { _ = client.Close() })
	})
	defer stop()
	r.loop(ctx)
	leaving, done := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout+stopTimeout)
	defer done()
	r.reader.leave(leaving)
	return nil
}

// where is what people call the server.
func (s *Source) where() string {
	addresses := strings.Join(s.redis.Addresses, ",")
	if s.redis.MasterName != "" {
		return s.redis.MasterName + " of the Sentinels " + addresses
	}
	return addresses
}

// what says what is read: in which way, and by which name.
func (s *Source) what() (way, name string) {
	r := s.redis
	switch {
	case r.Channel != "":
		return "channel", r.Channel
	case r.Pattern != "":
		return "pattern", r.Pattern
	case r.List != "":
		return "list", r.List
	}
	return "stream", r.Stream
}

// consumer is the name under which this process holds entries. It tells apart two events of one process too.
func (s *Source) consumer() string {
	return s.o.Instance + "/" + s.o.Source.Namespace + "." + s.o.Source.EventSource + "." + s.o.Source.Event
}

// run is one call of Run. Its goroutine is also the reader's, so that the state needs no lock.
type run struct {
	*Source
	client redis.UniversalClient
	dialer *dialer
	hands  hands
	reader reader
	ready  func(error)
	log    *zap.SugaredLogger

	tick     time.Duration // between two times that keep and takeOver are called; not above zero means never
	nextTick time.Time
	state    string // what was said last, in the log and to ready: allWell or the name of a problem
	wasRead  bool   // it was allWell once

	unacknowledged atomic.Pointer[error] // why the last acknowledgement did not work
}

func (r *run) newReader() reader {
	switch way, _ := r.what(); way {
	case "channel", "pattern":
		return newChannel(r)
	case "list":
		return newList(r)
	}
	return newStream(r)
}

// loop returns when ctx is done.
func (r *run) loop(ctx context.Context) {
	wait := firstWait
	for ctx.Err() == nil {
		began := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			return
		}
		r.away(err)
		if time.Since(began) > maxServerWait {
			wait = firstWait
		}
		source.Pause(ctx, wait)
		wait = min(2*wait, maxServerWait)
	}
}

// session reads until something fails.
func (r *run) session(ctx context.Context) error {
	if err := r.reader.open(ctx); err != nil {
		return err
	}
	if r.state == nothingSaid { // a read may be refused yet; what was said to be away must prove itself
		r.receiving()
	}
	r.nextTick = time.Now() // what is refused then is not said to be well
	for lost := int64(-1); ctx.Err() == nil; {
		if n := r.dialer.lost.Load(); n != lost {
			if err := r.reader.recover(ctx); err != nil {
				return err
			}
			lost = n
		}
		if err := r.tend(ctx); err != nil {
			return err
		}
		if err := r.reader.read(ctx); err != nil {
			return err
		}
		if err := r.unacknowledged.Load(); err != nil {
			return *err
		}
		r.receiving()
	}
	return nil
}

// tend does what has to be done from time to time.
func (r *run) tend(ctx context.Context) error {
	if !r.due() {
		return nil
	}
	if err := r.reader.keep(ctx); err != nil {
		return err
	}
	return r.reader.takeOver(ctx)
}

func (r *run) due() bool {
	now := time.Now()
	if r.tick <= 0 || now.Before(r.nextTick) {
		return false
	}
	r.nextTick = now.Add(r.tick)
	return true
}

// stay keeps what is held while there is no room for more. That it does not work is seen, and said, by whoever reads next.
func (r *run) stay(ctx context.Context) {
	if !r.due() {
		return
	}
	if err := r.reader.keep(ctx); err != nil {
		r.log.Debugw("what is held is not kept", "error", r.redact(err.Error()))
	}
}

// block is how long a read may wait.
func (r *run) block() time.Duration {
	block := maxBlock
	if r.tick > 0 {
		block = min(block, r.tick)
	}
	if r.redis.ReadTimeout > 0 {
		block = min(block, r.redis.ReadTimeout/2)
	}
	return max(block, time.Millisecond)
}

// room waits until something more can be handed on, and returns how much. It is zero when ctx is done.
func (r *run) room(ctx context.Context) (int, error) {
	for {
		if free := r.hands.free(); free > 0 {
			return free, nil
		}
		freed := make(<-chan time.Time)
		if r.tick > 0 {
			freed = time.After(time.Until(r.nextTick))
		}
		select {
		case <-ctx.Done():
			return 0, nil
		case r.hands.slots <- struct{}{}:
			<-r.hands.slots
		case <-freed:
			if !r.due() {
				continue
			}
			if err := r.reader.keep(ctx); err != nil {
				return 0, err
			}
		}
	}
}

// acknowledge calls ack until it works or Run's context is done, and tells whether it did.
func (r *run) acknowledge(ack func(context.Context) error) bool {
	for wait := firstWait; ; wait = min(2*wait, maxServerWait) {
		err := ack(r.hands.work)
		if err == nil {
			r.unacknowledged.Store(nil)
			return true
		}
		r.unacknowledged.Store(&err)
		source.Pause(r.hands.ctx, wait)
		if r.hands.ctx.Err() != nil {
			return false
		}
	}
}

// What was said last besides the name of a problem.
const (
	nothingSaid = ""
	allWell     = "all is well"
)

func (r *run) away(err error) {
	problem, err := r.explain(err)
	if problem == groupGone || r.state == problem {
		return
	}
	r.state = problem
	r.log.Warnw("redis is not read, trying again", "error", err)
	r.ready(err)
}

func (r *run) receiving() {
	if r.state == allWell {
		return
	}
	if r.state != nothingSaid {
		r.log.Infow("redis is read again")
	}
	r.state, r.wasRead = allWell, true
	r.ready(nil)
}
