package natsstreaming

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// doubtEvery is how often the server is asked for the oldest messages of topics, while there are doubts.
	doubtEvery = 5 * time.Second
	// behind is how old a message is when it comes to a subscription that may have lost what was before it. A channel of which all is
	// discarded sooner is too small to be looked after.
	behind = time.Second
	// downFor is how long a subscription is behind that may have lost something on a channel that discards nothing now. If it was away for less,
	// it is more likely that what was before it was delivered, and has expired.
	downFor = time.Minute
)

func (f *flow) doubtIfBehind(topic string, gap missing) {
	if gap.age >= behind {
		f.doubt(topic, gap)
	}
}

// doubts are what subscriptions did not get and others may have got: by topic, and by the name of the subscription.
type doubts map[string]map[string]missing

// doubt notes what a subscription did not get.
func (b *Bus) doubt(subscription, topic string, gap missing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.doubts[topic] == nil {
		b.doubts[topic] = map[string]missing{}
	}
	b.doubts[topic][subscription] = b.doubts[topic][subscription].and(gap)
	signal(b.doubted)
}

func (b *Bus) takeDoubts() doubts {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.doubts
	b.doubts = doubts{}
	return all
}

// resolve looks at doubts until ctx is done: those that have come up meanwhile are one question per topic.
func (b *Bus) resolve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.doubted:
		}
		pause(ctx, doubtEvery)
		b.ask(ctx)
	}
}

// ask asks about the doubts that there are. Those about which there is no answer stay.
func (b *Bus) ask(ctx context.Context) {
	for topic, gaps := range b.takeDoubts() {
		session := b.session(ctx)
		if session == nil {
			return // nobody asks any more
		}
		first, err := session.first(ctx, topic, 1)
		switch {
		case err == nil:
			b.tellDoubts(topic, gaps, first)
			b.log.Debugw("doubts are resolved", "topic", topic, "oldest", first)
		case errors.Is(err, errNoMessage):
			b.log.Debugw("nothing is known of messages that other members may have", "topic", topic, zap.Error(err))
		default:
			b.log.Debugw("messages that other members may have are looked for again", "topic", topic, zap.Error(err))
			b.putBack(topic, gaps)
		}
	}
}

// putBack keeps what takeDoubts returned with what has come up since.
func (b *Bus) putBack(topic string, gaps map[string]missing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for subscription, newer := range b.doubts[topic] {
		gaps[subscription] = gaps[subscription].and(newer)
	}
	b.doubts[topic] = gaps
	signal(b.doubted)
}

// tellDoubts says of what subscriptions did not get what may be lost, if first is the oldest message that the server has.
func (b *Bus) tellDoubts(topic string, gaps map[string]missing, first uint64) {
	for subscription, gap := range gaps {
		if !gap.mayBeLost(first) {
			continue
		}
		lost := []any{"to", min(first, gap.until) - 1}
		if gap.from > 1 { // otherwise the messages before are those of another process
			lost = append(lost, "from", gap.from)
		}
		b.log.With("subscription", subscription, "channel", topic).
			Warnw("the server has discarded events that may not have been delivered: the channel is at its limits; "+roomCure, lost...)
		b.lose(fmt.Sprintf("channel %s discarded events that subscription %s may not have got, since it is at its limits: ", topic, subscription) + roomCure)
	}
}

// mayBeLost tells whether some of it may have been discarded before it was sent to any member, if first is the oldest message that the server has. The
// server sends in order, and jumps to the oldest that it has over what it has discarded. So if it did, next or a later one was the oldest when it came.
func (g missing) mayBeLost(first uint64) bool {
	return first > g.next || first == g.next && g.age >= downFor
}
