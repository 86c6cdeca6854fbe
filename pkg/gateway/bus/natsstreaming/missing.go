package natsstreaming

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/stan.go"
	"go.uber.org/zap"
)

const (
	// membersAnswerWithin is how long a member that misses messages waits for another one to say that it is there.
	membersAnswerWithin = 2 * time.Second
	// tellLoss is how long Losing tells of messages that were lost.
	tellLoss = time.Hour

	roomCure = "raise max_msgs, max_bytes and max_age of the channel in the server's store_limits"
)

// position is the greatest sequence of a topic that came. Only if it came while there was no other member, it is known what should come next.
type position struct {
	sequence uint64
	alone    bool
}

// missing are messages of a topic that did not come, although a later one did.
type missing struct {
	from   uint64 // the sequence of the first
	events uint64
	next   uint64        // what came instead of the first
	age    time.Duration // of next when it came
	until  uint64        // what came after the last
}

func (g missing) and(more missing) missing {
	if g.events == 0 {
		return more
	}
	g.events += more.events
	g.until = more.until
	return g
}

// follow notes that a message came, and what should have come before it. The server sends each sequence of a channel to one member of a
// subscription, so nothing is certain of them while there are several: the server forgets what was acknowledged as it forgets what was never sent, and
// who has had a sequence may have ended since and can be asked no more. The flow is locked.
func (f *flow) follow(p place, repeated bool) {
	last := f.last[p.topic]
	switch {
	case repeated && p.sequence <= last.sequence:
		return
	case repeated: // what is between may have been acknowledged by whoever got this first
		f.last[p.topic] = position{p.sequence, last.alone && p.sequence == last.sequence+1}
		return
	case p.sequence <= last.sequence: // the server has lost its store, and counts anew
		delete(f.gaps, p.topic)
	case p.sequence > last.sequence+1 && (last.sequence > 0 || !f.anew):
		f.miss(last, p)
	}
	f.last[p.topic] = position{p.sequence, !f.shared}
}

func (f *flow) miss(last position, p place) {
	gap := missing{
		from: last.sequence + 1, events: p.sequence - last.sequence - 1,
		next: p.sequence, age: time.Since(time.Unix(0, p.stored)), until: p.sequence,
	}
	if !last.alone {
		f.doubtIfBehind(p.topic, gap)
		return
	}
	f.gaps[p.topic] = f.gaps[p.topic].and(gap)
	signal(f.gapped)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// share notes that there is another member.
func (f *flow) share() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shared, f.heard = true, true
	for topic, gap := range f.gaps {
		f.doubtIfBehind(topic, gap)
	}
	clear(f.gaps)
	for topic, last := range f.last {
		f.last[topic] = position{sequence: last.sequence}
	}
}

// inquire asks for other members, if there can be any.
func (f *flow) inquire() {
	f.mu.Lock()
	who := f.who
	f.mu.Unlock()
	if who != nil {
		who()
	}
}

// reconsider notes that there is no other member any more, if none has said since the last time that it is there, and asks those that there are.
func (f *flow) reconsider() {
	f.mu.Lock()
	shared := f.shared
	f.shared, f.heard = f.heard, false
	f.mu.Unlock()
	if shared {
		f.inquire()
	}
}

// takeGaps returns what was missed since the last time, by topic.
func (f *flow) takeGaps() map[string]missing {
	f.mu.Lock()
	defer f.mu.Unlock()
	gaps := f.gaps
	f.gaps = map[string]missing{}
	return gaps
}

// restore keeps what takeGaps returned with what was missed since.
func (f *flow) restore(gaps map[string]missing) {
	if len(gaps) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for topic, gap := range gaps {
		if newer, ok := f.gaps[topic]; ok {
			gap = gap.and(newer)
		}
		f.gaps[topic] = gap
	}
	signal(f.gapped)
}

// tellMissing says what of gaps the server does not have any more: it has discarded that before it sent it. It discards the oldest first, so
// that all that is missing before what it has is gone. It returns the gaps about which there is no answer.
func (m *membership) tellMissing(ctx context.Context, gaps map[string]missing) map[string]missing {
	unknown := map[string]missing{}
	for topic, gap := range gaps {
		if ctx.Err() != nil || m.session.isLost() {
			unknown[topic] = gap
			continue
		}
		first, err := m.session.first(ctx, topic, gap.from)
		if err != nil {
			if !errors.Is(err, errNoMessage) {
				unknown[topic] = gap
			}
			m.log.Debugw("messages that did not come are not looked for", "topic", topic, zap.Error(err))
			continue
		}
		if first <= gap.from {
			continue
		}
		n := min(gap.events, first-gap.from)
		m.log.Errorw("the server has discarded events that were not delivered: the channel is at its limits; "+roomCure,
			"subscription", m.subscription.Name, "channel", topic, "events", n)
		m.lose(fmt.Sprintf("channel %s discarded events that subscription %s had not got, since it is at its limits: ", topic, m.subscription.Name) + roomCure)
	}
	return unknown
}

// errNoMessage says that the server knows the subscription and has nothing to send.
var errNoMessage = errors.New("no message comes")

// first returns the sequence of the oldest message of a topic, from one on, that the server has.
func (s *session) first(ctx context.Context, topic string, from uint64) (uint64, error) {
	came := make(chan uint64, 1)
	sub, err := s.subscribe(func() (stan.Subscription, error) {
		return s.sc.Subscribe(topic, func(sent *stan.Msg) {
			select {
			case came <- sent.Sequence:
			default:
			}
		}, stan.StartAtSequence(from), stan.MaxInflight(1), stan.SetManualAckMode())
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // it ends with the session at the latest
	timer := time.NewTimer(requestTimeout)
	defer timer.Stop()
	select {
	case sequence := <-came:
		return sequence, nil
	case <-timer.C:
		return 0, errNoMessage
	case <-s.lost:
		return 0, s.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// lose keeps for Losing what was lost, without a number: with each new one statuses would be written again.
func (b *Bus) lose(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.losses[what] = time.Now()
}

// Losing tells of events that were lost within the last hour, of several losses always the same. What the limits of the server are, nobody is
// told before.
func (b *Bus) Losing() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.losses, func(_ string, last time.Time) bool { return time.Since(last) > tellLoss })
	if len(b.losses) == 0 {
		return ""
	}
	return slices.Min(slices.Collect(maps.Keys(b.losses)))
}
