package natsstreaming

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
)

// grants are what the user of the bus needs; docs/spec/eventbus.md has the same.
var grants = natsaccess.Grants{
	Publish: []string{
		"_STAN.discover.>", "_STAN.pub.>", "_STAN.sub.>", "_STAN.subclose.>", "_STAN.unsub.>", "_STAN.close.>", "_INBOX.>", "_OPENFUNCTION.claim.*",
	},
	Subscribe: []string{"_INBOX.>", "_STAN.acks.*", "_OPENFUNCTION.claim.*"},
}

func (b *Bus) denial(err error) *natsaccess.Denial {
	return natsaccess.Denied(b.o.Config.NATSAccess, b.o.Config.URL, grants, err)
}

// told is called with what the server says besides.
func (s *session) told(b *Bus, err error) {
	d := b.denial(err)
	if d == nil {
		b.log.Debugw("event bus connection reports an error", zap.Error(err))
		return
	}
	vital := false
	switch {
	case strings.HasPrefix(d.Subject, "_OPENFUNCTION."):
		s.silent.Store(true)
		b.mute.Do(func() {
			b.log.Warnw("the members of a subscription cannot ask each other who has a message, so one that takes longer than the ack wait is delivered twice", zap.Error(d))
		})
	case strings.HasPrefix(d.Subject, "_STAN.close."):
		b.log.Warnw("the server is not told that the bus is closed, so what is not acknowledged comes again after the ack wait only", zap.Error(d))
	default:
		vital = s.isVital(d)
	}
	s.denied.add(d) // after the warning: Close may wait for it
	if vital {
		s.lose(d)
	}
}

// isVital tells whether a session is of no use without what is denied. Other requests have somebody who waits for the answer.
func (s *session) isVital(d *natsaccess.Denial) bool {
	return d.Subscribe || !strings.HasPrefix(d.Subject, "_STAN.pub.") && !strings.HasPrefix(d.Subject, "_STAN.sub.") && !strings.HasPrefix(d.Subject, "_STAN.unsub.")
}

// examine asks for what is not needed at once, but without which the session would be lost soon; and for what the one before was lost by.
// What is denied is nc's last error then.
func (s *session) examine(b *Bus, nc *nats.Conn) error {
	b.mu.Lock()
	before := b.denied
	b.mu.Unlock()
	// Without a content, none of it means anything to whom it reaches.
	subjects := []string{stan.DefaultDiscoverPrefix + "." + b.o.Config.ClusterID + ".pings", nats.NewInbox()}
	if before != nil && !before.Subscribe && strings.HasPrefix(before.Subject, "_STAN.subclose.") { // only a subscription that ends needs it
		subjects = append(subjects, before.Subject)
	}
	for _, subject := range subjects {
		if err := nc.Publish(subject, nil); err != nil {
			return err
		}
	}
	return nc.FlushTimeout(requestTimeout)
}

// remember keeps what a session was lost by; nil once one has it.
func (b *Bus) remember(err error) {
	var d *natsaccess.Denial
	if err != nil && !errors.As(err, &d) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denied = d
}

// denials are what the server has said that it does not permit to publish, by subject. It does not answer such a request.
type denials struct {
	mu    sync.Mutex
	all   map[string]denial
	last  *natsaccess.Denial
	close func() // ends a request that nothing else would
}

type denial struct {
	at time.Time
	*natsaccess.Denial
}

// interrupt has the next denial call end.
func (d *denials) interrupt(end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.close = end
}

func (d *denials) add(denied *natsaccess.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[string]denial{}
	}
	d.last = denied
	if !denied.Subscribe {
		d.all[denied.Subject] = denial{time.Now(), denied}
	}
	if d.close != nil {
		d.close()
	}
}

func (d *denials) latest() *natsaccess.Denial {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// since returns what the server has said since then of a subject that is accepts, or nil.
func (d *denials) since(then time.Time, is func(subject string) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for subject, denied := range d.all {
		if is(subject) && denied.at.After(then) {
			return denied.Denial
		}
	}
	return nil
}
