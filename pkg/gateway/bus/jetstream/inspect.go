package jetstream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"
)

// inspectAge is after how long the settings of the stream of events are looked at again, if an event is published or somebody asks then.
const inspectAge = 10 * time.Second

// flaws are the settings of a stream of events by which it loses what it took, or does not do what the bus says, a sentence each with the cure. That it keeps
// more than is needed, or refuses more, is its owner's choice.
func (b *Bus) flaws(c jetstream.StreamConfig) (loses, others []string) {
	edit := func(setting string) string { return "nats stream edit " + c.Name + " " + setting }
	lose := func(format string, args ...any) { loses = append(loses, fmt.Sprintf(format, args...)) }
	again := "stop publishing, remove the stream once it is empty, and the bus makes it anew"
	if c.Discard == jetstream.DiscardOld {
		if c.MaxMsgs > 0 {
			lose("with discard old and max_msgs %d it drops the oldest event, delivered or not, to take one more: %s", c.MaxMsgs, edit("--discard new"))
		}
		if c.MaxBytes > 0 {
			lose("with discard old and max_bytes %d it drops the oldest events, delivered or not, to take one more: %s", c.MaxBytes, edit("--discard new"))
		}
	}
	if c.MaxMsgsPerSubject > 0 && !(c.Discard == jetstream.DiscardNew && c.DiscardNewPerSubject) {
		lose("with max_msgs_per_subject %d it drops the oldest event of a source, delivered or not, to take one more: %s",
			c.MaxMsgsPerSubject, edit("--max-msgs-per-subject=-1"))
	}
	if c.MaxAge > 0 {
		lose("with max_age %s it drops what is older, delivered or not: %s", c.MaxAge, edit("--max-age 0s"))
	}
	if c.Retention == jetstream.WorkQueuePolicy {
		lose("with retention workqueue it keeps an event for one subscription only: %s", again)
	}
	if c.Storage == jetstream.MemoryStorage && b.o.Storage == jetstream.FileStorage {
		lose("with storage memory it loses everything when its servers restart: %s", again)
	}
	if after := c.ConsumerLimits.InactiveThreshold; after > 0 {
		lose("with inactive_threshold %s in consumer_limits it removes a subscription that is away for longer, with what waits for it: remove that from its configuration", after)
	}
	if c.SubjectTransform != nil {
		lose("with subject_transform it puts events where no subscription looks for them: %s", edit("--no-transform"))
	}
	if c.Duplicates < duplicatesWindow {
		others = append(others, fmt.Sprintf("with duplicate_window %s it recognises no duplicate that comes later: %s", c.Duplicates, edit("--dupe-window 2m")))
	}
	return loses, others
}

// inspect tells, once each, what is wrong with the settings of the stream of events, and keeps for Losing by which of them it loses events.
func (b *Bus) inspect(c jetstream.StreamConfig) {
	if c.Name != eventsName {
		return
	}
	b.inspected.Store(time.Now().UnixNano())
	loses, others := b.flaws(c)
	losing := ""
	if loses != nil {
		losing = "stream " + c.Name + " loses events: " + strings.Join(loses, "; ")
	}
	log := logging.FromContext(b.ctx).With("bus", b.o.Name, "stream", c.Name)
	for _, flaw := range others {
		if _, told := b.told.LoadOrStore(flaw, true); !told {
			log.Warnw("the stream is not as the bus makes it", "why", flaw)
		}
	}
	was := b.losing.Swap(&losing)
	switch {
	case losing != "" && (was == nil || *was != losing):
		log.Errorw("the settings of the stream lose events", "error", losing)
	case losing == "" && was != nil && *was != "":
		log.Infow("the settings of the stream lose no events any more")
	}
}

// Losing implements bus.Bus.
func (b *Bus) Losing() string {
	if l := b.current.Load(); l != nil {
		b.inspectAgain(l)
	}
	if losing := b.losing.Load(); losing != nil {
		return *losing
	}
	return ""
}

// inspectAgain looks at the settings of the stream of events, which a person may have changed, if nobody has for a while. It does not wait for that.
func (b *Bus) inspectAgain(l *link) {
	last, now := b.inspected.Load(), time.Now().UnixNano()
	if now-last < int64(inspectAge) || !b.inspected.CompareAndSwap(last, now) || !b.begin() {
		return
	}
	go func() {
		defer b.running.Done()
		ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
		defer cancel()
		defer context.AfterFunc(b.ctx, cancel)()
		if s, err := l.js.Stream(ctx, eventsName); err == nil { // otherwise whoever uses it finds out
			b.inspect(s.CachedInfo().Config)
		}
	}()
}
