package natsstreaming

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/stan.go"

	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	defaultAckWait = 30 * time.Second
	// resubscribeAfter is the pause after the server refused a subscription.
	resubscribeAfter = time.Second
	// unsubscribeWithin is how long Unsubscribe waits for a server that is away.
	unsubscribeWithin = 10 * time.Second
)

// Subscribe receives from one durable subscription per topic: a queue group named as s, which processes share, or one of this
// client id alone. Of s.MaxInFlight each topic has an equal share, at least one, so that a topic whose messages wait for those
// of another never keeps them away; the whole never exceeds s.MaxInFlight, which by default is the configured maxInFlight.
//
// A message that was Done with an error stays in memory and is handed over again after a second, before others.
func (b *Bus) Subscribe(ctx context.Context, s bus.Subscription, receive func(*bus.Message)) error {
	if err := check(s); err != nil {
		return err
	}
	if !b.beginSubscription() {
		return b.unavailable(errClosed)
	}
	defer b.subscriptions.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.closing, func() { cancel(nil) })()

	s.MaxInFlight = cmp.Or(s.MaxInFlight, b.o.Config.MaxInFlight, bus.DefaultMaxInFlight)
	f := newFlow(s.MaxInFlight, receive)
	f.doubt = func(topic string, gap missing) { b.doubt(s.Name, topic, gap) }
	f.anew = cmp.Or(b.o.Config.StartAt, "new") != "new"
	// The subscriptions outlive ctx, so that what is in flight can be acknowledged.
	attached, detach := context.WithCancel(context.WithoutCancel(ctx))
	defer detach()
	result := make(chan error, 1)
	go func() {
		err := b.attach(attached, s, f)
		if err != nil {
			cancel(err)
		}
		result <- err
	}()
	f.deliver(ctx)
	f.drain(cmp.Or(s.Grace, bus.DefaultGrace), b.closing.Done())
	detach()
	return <-result
}

func (b *Bus) beginSubscription() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending {
		return false
	}
	b.subscriptions.Add(1)
	return true
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

func check(s bus.Subscription) error {
	if !validName.MatchString(s.Name) {
		return fmt.Errorf("subscribe %q: not a subscription's name: want 1 to 200 letters, digits, '-' and '_'", s.Name)
	}
	if len(s.Topics) == 0 {
		return fmt.Errorf("subscribe %s: no topics", s.Name)
	}
	for _, topic := range s.Topics {
		if err := checkTopic(topic); err != nil {
			return fmt.Errorf("subscribe %s: %w", s.Name, err)
		}
	}
	return nil
}

// attach keeps the subscriptions of f on the server until ctx is done; then it closes them, which keeps what is durable.
func (b *Bus) attach(ctx context.Context, s bus.Subscription, f *flow) error {
	reports := bus.Reports{Bus: b, Subscription: s, Log: b.log}
	var since time.Time // when the subscription first existed
	for generation := 1; ; generation++ {
		reports.Await()
		session := b.session(ctx)
		if session == nil {
			return nil
		}
		f.begin(generation)
		m := &membership{Bus: b, session: session, subscription: s, since: since}
		tried := time.Now()
		err := m.join(f, generation)
		if err == nil {
			if since.IsZero() {
				since = tried
			}
			reports.Report(nil)
			err = m.stay(ctx, f)
		}
		if err == nil || ctx.Err() != nil {
			m.leave()
			return nil
		}
		f.suspend()
		if !session.isLost() && session.nc.IsConnected() { // that it was, and not in vain, is all that an answer has in common
			err = bus.Refused(err)
		}
		m.leave()
		if cannotBeCured(err) {
			return fmt.Errorf("subscribe %s: %w", s.Name, err)
		}
		reports.Report(err)
		if !session.isLost() {
			pause(ctx, resubscribeAfter)
		}
	}
}

// cure says what to do about a limit of the server's, if err is one.
func cure(err error) string {
	for limit, names := range map[string]string{saysTooMany: "max_channels of its store_limits, or -mc", saysTooManySubscriptions: "max_subs of its store_limits, or -msu"} {
		if strings.Contains(err.Error(), limit) {
			return ": make room or raise its limit (" + names + ")"
		}
	}
	return ""
}

// membership is a subscription on the server, for one session.
type membership struct {
	*Bus
	session      *session
	subscription bus.Subscription
	since        time.Time

	subs []stan.Subscription // in the order of the topics
	mute func()              // nil while there are no others to talk to
}

// join subscribes to all topics. After an error some may be subscribed to; leave ends that too.
func (m *membership) join(f *flow, generation int) error {
	s, c := m.subscription, m.o.Config
	if c.Queue {
		var err error
		m.mute, err = f.converse(m.session.nc, claimSubject(c.ClusterID, m.durable(), s.Name))
		if err != nil {
			return err
		}
	}
	share := max(1, s.MaxInFlight/len(s.Topics))
	take := func(sent *stan.Msg) { f.take(generation, sent) }
	for _, topic := range s.Topics {
		sub, err := m.subscribe(m.session, s.Name, topic, take, stan.MaxInflight(share), m.startAt(m.since))
		if err != nil {
			return fmt.Errorf("topic %s: %w%s", topic, err, cure(err))
		}
		m.subs = append(m.subs, sub)
	}
	return nil
}

// stay returns nil when ctx is done, and an error when the session is lost.
func (m *membership) stay(ctx context.Context, f *flow) error {
	t := time.NewTicker(m.ackWait())
	defer t.Stop()
	var answered <-chan time.Time // when other members have had time to say that they are there; nil while nothing is missing
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.session.lost:
			return m.unavailable(m.session.err)
		case <-t.C:
			if m.o.Config.Queue {
				nudge(m.subs, m.subscription.Topics)
				f.reconsider()
			}
		case <-f.gapped:
			if answered == nil {
				f.inquire()
				answered = time.After(membersAnswerWithin)
			}
		case <-answered:
			answered = nil
			if m.session.silent.Load() { // another member may be there and have them
				f.share()
			}
			f.restore(m.tellMissing(ctx, f.takeGaps()))
		}
	}
}

// leave ends the subscriptions, which keeps what the server remembers.
func (m *membership) leave() {
	if m.mute != nil {
		m.mute()
	}
	for _, sub := range m.subs {
		if m.session.isLost() {
			return
		}
		if err := sub.Close(); errors.Is(err, stan.ErrCloseReqTimeout) {
			m.session.lose(err)
		}
	}
}

// subscribe subscribes to one topic.
func (b *Bus) subscribe(session *session, name, topic string, take stan.MsgHandler, options ...stan.SubscriptionOption) (stan.Subscription, error) {
	options = append(options, stan.SetManualAckMode(), stan.AckWait(b.ackWait()))
	return session.subscribe(func() (stan.Subscription, error) {
		if b.o.Config.Queue {
			return session.sc.QueueSubscribe(topic, name, take, append(options, stan.DurableName(b.durable()))...)
		}
		return session.sc.Subscribe(topic, take, append(options, stan.DurableName(b.durable()+"-"+name))...)
	})
}

// subscribe calls request. When the server's state is in doubt, the session is lost: the server may go on sending.
func (s *session) subscribe(request func() (stan.Subscription, error)) (stan.Subscription, error) {
	began := time.Now()
	sub, err := request()
	if errors.Is(err, stan.ErrSubReqTimeout) {
		asks := func(subject string) bool { return strings.HasPrefix(subject, "_STAN.sub.") }
		if denied := s.denied.since(began, asks); denied != nil {
			return nil, denied // the server has not seen the request
		}
	}
	if errors.Is(err, stan.ErrSubReqTimeout) || err != nil && err.Error() == saysUnknownClient {
		s.lose(err)
	}
	return sub, err
}

func (b *Bus) durable() string { return cmp.Or(b.o.Config.Durable, "openfunction") }

// ackWait is whole seconds, which is what the protocol counts.
func (b *Bus) ackWait() time.Duration {
	if b.o.Config.AckWait <= 0 {
		return defaultAckWait
	}
	return (b.o.Config.AckWait + time.Second - 1).Truncate(time.Second)
}

// startAt is where a subscription begins that the server does not know. A subscription that this process had already begins
// where it began then: a server that forgot it, such as one with its store in memory, forgot the events from before too.
func (b *Bus) startAt(since time.Time) stan.SubscriptionOption {
	c := b.o.Config
	switch {
	case c.StartAt == "all":
		return stan.DeliverAllAvailable()
	case !since.IsZero():
		return stan.StartAtTime(since)
	case c.StartAt == "last":
		return stan.StartWithLastReceived()
	case c.StartAt == "sequence":
		return stan.StartAtSequence(c.StartAtSeq)
	case c.StartAt == "delta":
		return stan.StartAtTimeDelta(c.StartAtDelta)
	case c.StartAt == "time" && c.StartAtTime != nil:
		return stan.StartAtTime(*c.StartAtTime)
	}
	return func(*stan.SubscriptionOptions) error { return nil } // new
}

// cannotBeCured tells whether the server refused the subscription for what only a change of the settings cures.
func cannotBeCured(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		switch err.Error() {
		case "stan: invalid subject", "stan: invalid start position",
			"stan: durable name of a durable queue subscriber can't contain the character ':'":
			return true
		}
	}
	return false
}

// Unsubscribe removes s from the server. While other processes are members of the queue group, only the last that unsubscribes does;
// a durable subscription of the type topic is removed for this client id. It waits a moment for a server that is away.
func (b *Bus) Unsubscribe(ctx context.Context, s bus.Subscription) error {
	if err := check(s); err != nil {
		return err
	}
	if !b.beginSubscription() {
		return b.unavailable(errClosed)
	}
	defer b.subscriptions.Done()
	ctx, cancel := context.WithTimeout(ctx, unsubscribeWithin)
	defer cancel()
	defer context.AfterFunc(b.closing, cancel)()

	session := b.session(ctx)
	if session == nil {
		return fmt.Errorf("unsubscribe %s: %w", s.Name, b.unavailable(ctx.Err()))
	}
	for _, topic := range s.Topics {
		// The protocol removes only what one is subscribed to.
		sub, err := b.subscribe(session, s.Name, topic, func(*stan.Msg) {}, stan.MaxInflight(1))
		if err == nil {
			err = b.remove(session, sub)
		}
		if err != nil {
			return fmt.Errorf("unsubscribe %s: topic %s: %w", s.Name, topic, err)
		}
	}
	return nil
}

// remove removes the subscription from the server.
func (b *Bus) remove(session *session, sub stan.Subscription) error {
	began := time.Now()
	err := sub.Unsubscribe()
	if !errors.Is(err, stan.ErrUnsubReqTimeout) {
		return err
	}
	if denied := session.denied.since(began, func(subject string) bool { return strings.HasPrefix(subject, "_STAN.unsub.") }); denied != nil {
		err = denied
	}
	if closing := sub.Close(); closing != nil {
		session.lose(closing) // the server would go on sending to it
	}
	return err
}
