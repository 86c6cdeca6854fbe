package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	// remembered is how many acknowledgements a subscription recalls: those that a broken connection may have swallowed.
	remembered = 1024
	// overhead is what a message takes besides its data.
	overhead = 1 << 10
)

// part is what a subscription has on one stream: a consumer of the server, under the subscription's name.
type part struct {
	stream string
	topics []string

	// Under the subscription's lock:
	held  map[uint64]*delivery
	acked []ack // a ring
	next  int   // where in acked
	last  uint64

	gathering bool // see gather; nothing new comes

	// Used by the subscription's goroutine only:
	known   bool      // the consumer existed once
	created time.Time // the stream, when the consumer was last seen
	floor   uint64    // the first sequence that may not be acknowledged, as of then
	limited bool      // the consumer may have gatherLimit, of which this process makes an end
}

type ack struct {
	sequence uint64
	stored   int64
}

const (
	isNew = iota
	isHeld
	isDone
)

// hold notes that d was sent and says what is known about it.
func (p *part) hold(d *delivery) int {
	if h := p.held[d.sequence]; h != nil && h.stored.Equal(d.stored) {
		h.msg = d.msg // answers go to the latest copy
		return isHeld
	}
	if d.sequence <= p.last && slices.Contains(p.acked, ack{d.sequence, d.stored.UnixNano()}) {
		return isDone
	}
	p.last = max(p.last, d.sequence)
	p.held[d.sequence] = d
	return isNew
}

// release forgets d, but for the fact that it was acknowledged.
func (p *part) release(d *delivery, acked bool) {
	if p.held[d.sequence] == d {
		delete(p.held, d.sequence)
	}
	if !acked {
		return
	}
	a := ack{d.sequence, d.stored.UnixNano()}
	if len(p.acked) < remembered {
		p.acked = append(p.acked, a)
		return
	}
	p.acked[p.next] = a
	p.next = (p.next + 1) % remembered
}

type handlers func(*part) (jetstream.MessageHandler, jetstream.ConsumeErrHandler)

// attach makes the consumers and starts receiving from them. What it started is returned also with an error.
func (s *subscription) attach(ctx context.Context, l *link, h handlers) (map[*part]jetstream.Consumer, []jetstream.ConsumeContext, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	parts, err := s.split(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	consumers := map[*part]jetstream.Consumer{}
	for _, p := range parts {
		if consumers[p], err = s.consumer(ctx, l, p); err != nil {
			return nil, nil, err
		}
		if err := s.examine(ctx, l, p); err != nil {
			return nil, nil, s.wrapConsumer(p, err)
		}
	}
	var consuming []jetstream.ConsumeContext
	for p, c := range consumers {
		onMessage, onError := h(p)
		cc, err := c.Consume(onMessage, jetstream.PullMaxMessagesWithBytesLimit(s.MaxInFlight, maxPull(l)), jetstream.PullExpiry(pullExpiry),
			jetstream.PullHeartbeat(pullHeartbeat), jetstream.ConsumeErrHandler(onError))
		if err != nil {
			return nil, consuming, fmt.Errorf("consume from stream %s: %w", p.stream, err)
		}
		consuming = append(consuming, cc)
	}
	return consumers, consuming, nil
}

// maxPull is how many bytes the server may send before it is asked again: a message of any size, or a good many small ones.
func maxPull(l *link) int {
	const envelope = 4 << 10 // the names that the server counts too
	return max(4<<20, int(l.nc.MaxPayload())+envelope)
}

// detach stops receiving. What is on its way still arrives, so that it can be given back, if the server is there.
func (s *subscription) detach(ctx context.Context, l *link, consuming []jetstream.ConsumeContext) {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	s.mu.Lock()
	s.ending = ctx.Err() != nil
	s.mu.Unlock()
	for _, cc := range consuming {
		if l.ctx.Err() != nil || !l.nc.IsConnected() {
			cc.Stop()
			continue
		}
		cc.Drain()
		select {
		case <-cc.Closed():
		case <-l.ctx.Done():
		case <-timer.C:
		}
	}
}

// split groups the topics by the stream that holds them.
func (s *subscription) split(ctx context.Context, l *link) ([]*part, error) {
	topics := map[string][]string{}
	for _, t := range s.Topics {
		stream, err := s.b.streamOf(ctx, l, t)
		if err != nil {
			return nil, err
		}
		topics[stream] = append(topics[stream], t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []*part
	for stream, list := range topics {
		p := s.parts[stream]
		if p == nil {
			p = &part{stream: stream, held: map[uint64]*delivery{}}
			s.parts[stream] = p
		}
		p.topics = list
		parts = append(parts, p)
	}
	return parts, nil
}

// consumer returns the server's consumer, which it makes or changes if need be.
func (s *subscription) consumer(ctx context.Context, l *link, p *part) (jetstream.Consumer, error) {
	stream, err := l.js.Stream(ctx, p.stream)
	if err != nil {
		for _, t := range p.topics {
			l.forget(t)
		}
		return nil, wrapStream("read", p.stream, err)
	}
	created, limit := stream.CachedInfo().Created, stream.CachedInfo().Config.ConsumerLimits.InactiveThreshold
	c, err := stream.Consumer(ctx, s.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		c, err = stream.CreateConsumer(ctx, s.config(p, created))
		if errors.Is(err, jetstream.ErrConsumerExists) { // another member was faster
			c, err = stream.Consumer(ctx, s.Name)
		}
	}
	if err != nil {
		return nil, s.wrapConsumer(p, err)
	}
	has := c.CachedInfo().Config
	want := has
	want.FilterSubject, want.FilterSubjects = "", p.topics
	want.AckWait, want.MaxAckPending, want.MaxDeliver = s.b.o.Config.AckWait, s.MaxInFlight, -1
	gathering := s.Ordered && c.CachedInfo().NumAckPending > 0
	if gathering {
		want.MaxAckPending, p.limited = gatherLimit, true // until gather has ended, however it does
	}
	s.mu.Lock()
	p.gathering = gathering
	s.mu.Unlock()
	want.InactiveThreshold = limit // it must outlast any absence, if the stream lets it
	if limit > 0 && p.stream != eventsName {
		s.b.tellForgetful(p.stream, limit)
	}
	if !slices.Equal(subjects(has), p.topics) || has.AckWait != want.AckWait || has.MaxAckPending != want.MaxAckPending || has.MaxDeliver != -1 || has.InactiveThreshold != limit {
		if c, err = stream.UpdateConsumer(ctx, want); err != nil {
			return nil, s.wrapConsumer(p, err)
		}
	}
	p.known, p.created, p.floor = true, created, c.CachedInfo().AckFloor.Stream+1
	return c, nil
}

func (s *subscription) wrapConsumer(p *part, err error) error {
	return fmt.Errorf("consumer %s of stream %s: %w%s", s.Name, p.stream, err, cure(err))
}

func subjects(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return slices.Sorted(slices.Values(c.FilterSubjects))
}

// config is that of a new consumer. It begins now; but with all of a stream that is newer than the subscription, and if there was a consumer,
// which someone removed, where that one was.
func (s *subscription) config(p *part, created time.Time) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable: s.Name, FilterSubjects: p.topics, DeliverPolicy: jetstream.DeliverNewPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.b.o.Config.AckWait, MaxAckPending: s.MaxInFlight, MaxDeliver: -1,
	}
	switch {
	case p.known && !p.created.Equal(created), s.began.Before(created): // the clocks of two machines are compared only before it was ever attached
		c.DeliverPolicy = jetstream.DeliverAllPolicy
	case p.known:
		c.DeliverPolicy, c.OptStartSeq = jetstream.DeliverByStartSequencePolicy, s.position(p)
	}
	return c
}

// position is the first sequence that may not have been acknowledged.
func (s *subscription) position(p *part) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	position := max(p.floor, p.last+1)
	for sequence := range p.held {
		position = min(position, sequence)
	}
	return max(1, position)
}

// Unsubscribe implements bus.Bus.
func (b *Bus) Unsubscribe(ctx context.Context, s bus.Subscription) error {
	l, err := b.up(ctx)
	if err != nil {
		return fmt.Errorf("unsubscribe %s: %w", s.Name, err)
	}
	watched, end := b.watch(ctx, func(subject string) bool {
		return subject == "$JS.API.STREAM.NAMES" || strings.HasPrefix(subject, "$JS.API.CONSUMER.DELETE.") && strings.HasSuffix(subject, "."+s.Name)
	})
	defer end()
	if err := b.remove(watched, l, s); err != nil {
		return fmt.Errorf("unsubscribe %s: %w", s.Name, b.refusal(ctx, whyDenied(watched, err)))
	}
	return nil
}

func (b *Bus) remove(ctx context.Context, l *link, s bus.Subscription) error {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	streams, err := b.streamsOf(ctx, l, s.Topics)
	if err != nil {
		return err
	}
	for _, name := range streams {
		err := l.js.DeleteConsumer(ctx, name, s.Name)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
	}
	return nil
}

// streamsOf returns where a subscription to topics is, or was when it had other topics.
func (b *Bus) streamsOf(ctx context.Context, l *link, topics []string) ([]string, error) {
	var streams []string
	names := l.js.StreamNames(ctx)
	for name := range names.Name() {
		if strings.HasPrefix(name, ownPrefix) {
			streams = append(streams, name)
		}
	}
	if err := names.Err(); err != nil {
		return nil, err
	}
	for _, t := range topics {
		name, err := l.js.StreamNameBySubject(ctx, t)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return nil, err
		case !slices.Contains(streams, name):
			streams = append(streams, name)
		}
	}
	return streams, nil
}

// Prune removes the durable subscriptions to events whose name keep does not want, and keeps nothing for others that may come. It returns how many
// events waited in each that it has removed. It is for a bus that has one user only. It waits for the server until ctx is done.
func (b *Bus) Prune(ctx context.Context, keep func(name string) bool) (removed map[string]uint64, err error) {
	l := b.await(ctx)
	if l == nil {
		return nil, fmt.Errorf("prune subscriptions: %w", b.why())
	}
	stream, err := l.js.Stream(ctx, eventsName)
	if err != nil {
		return nil, fmt.Errorf("prune subscriptions: %w", err)
	}
	removed = map[string]uint64{}
	all := stream.ListConsumers(ctx)
	for c := range all.Info() {
		if keep(c.Name) {
			continue
		}
		if err := l.js.DeleteConsumer(ctx, eventsName, c.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return removed, fmt.Errorf("prune subscription %s: %w", c.Name, err)
		}
		if c.Name != latecomersName {
			removed[c.Name] = c.NumPending + uint64(c.NumAckPending)
		}
	}
	return removed, all.Err()
}

const (
	// waitingSteady is for how long a number of waiting events stays the same before it is believed: the server deals with
	// acknowledgements a moment after they came. waitingPoll is how often it is asked.
	waitingSteady = 200 * time.Millisecond
	waitingPoll   = 20 * time.Millisecond
)

// Waiting returns how many events a subscription has not acknowledged yet, and how many dead letters there are. It is for a bus that has one
// user only, which has pruned it and receives no more.
func (b *Bus) Waiting(ctx context.Context) (events, letters uint64, err error) {
	if letters, err = b.messages(ctx, deadLettersName); err != nil {
		return 0, 0, err
	}
	poll := time.NewTicker(waitingPoll)
	defer poll.Stop()
	for since := time.Now(); ; {
		now, err := b.messages(ctx, eventsName)
		if err != nil || now == 0 {
			return 0, letters, err
		}
		if now != events {
			events, since = now, time.Now()
		}
		if time.Since(since) >= waitingSteady {
			return events, letters, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return events, letters, nil
		}
	}
}

// messages returns how many a stream has; none if there is no such stream.
func (b *Bus) messages(ctx context.Context, name string) (uint64, error) {
	l, err := b.up(ctx)
	if err != nil {
		return 0, err
	}
	s, err := l.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, wrapStream("read", name, err)
	}
	return s.CachedInfo().State.Msgs, nil
}
