package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// maxEndWait bounds how long to wait before another attempt to end a session.
	maxEndWait = 5 * time.Minute
	// quietPings is how many pings in a row are answered with nothing before them, one every quietPause, until a session is taken for empty. A
	// server answers them in the order of all else that it is told, so it may be as slow as it likes.
	quietPings = 3
	quietPause = time.Second
)

// inherit ends the sessions of the members that are no more, and hands on what waits in them: a broker keeps a share of the messages for each,
// also of those that come now. It returns when there are none, or ctx is done.
func (r *run) inherit(ctx, work context.Context) {
	var former []*run
	for n := r.mqtt.Members; n < plan.MaxMembers; n++ {
		m := &run{
			Source: r.Source, mqtt: r.mqtt, server: r.server, protocol: r.protocol, clientID: r.memberID(n), filter: r.filter,
			identifier: r.identifier, next: r.next, log: r.log.With("clientID", r.memberID(n)),
		}
		m.inbox = newInbox(m, ctx, work)
		former = append(former, m)
	}
	for wait := firstWait; ; wait = min(2*wait, maxEndWait) {
		former = slices.DeleteFunc(former, func(m *run) bool {
			if ctx.Err() != nil {
				return false
			}
			existed, err := m.end(ctx)
			switch {
			case err != nil && ctx.Err() == nil:
				r.sayOnce("inherit", "the session of a member that may have been is not ended yet, trying again", "member", m.clientID, "error", m.explain(err))
			case err == nil && existed:
				r.log.Infow("the session of a member that is no more is ended", "member", m.clientID)
			}
			return err == nil
		})
		if len(former) == 0 {
			return
		}
		source.Pause(ctx, wait)
		if ctx.Err() != nil {
			break
		}
	}
	for _, m := range former {
		m.inbox.drain()
	}
}

// Leave implements source.Leaver: it ends the session of a member that has a number. Other sessions are nobody's loss, and one may be meant
// to be taken over: its client id is one that a person has chosen.
func (s *Source) Leave(ctx context.Context, next event.Handler) error {
	if s.o.Source.MQTT.Members == 0 {
		return nil
	}
	r, err := s.newRun(ctx, next)
	if err != nil {
		return err
	}
	r.inbox = newInbox(r, ctx, ctx)
	defer r.inbox.drain()
	if _, err = r.end(ctx); err != nil {
		return fmt.Errorf("end the session of %s: %w", r.clientID, r.explain(err))
	}
	return nil
}

// end ends the session of a client id that nobody comes back for, and tells whether there was one. What waits in it is handed on before.
func (r *run) end(ctx context.Context) (existed bool, err error) {
	c, answer, err := r.connect(ctx, false)
	if err != nil {
		return false, err
	}
	if answer.sessionPresent {
		r.inbox.attach(c, true)
		err = r.converse(ctx, c, r.o.pause, func() error { return r.empty(ctx, c) })
	}
	if err != nil {
		c.close()
		return true, err
	}
	c.part()
	// The end of a connection has no answer, but its beginning has.
	c, _, err = r.connect(ctx, true)
	if err == nil {
		c.part()
	}
	return answer.sessionPresent, err
}

// empty ends the subscription of the session and takes what waits, until the server has no more.
func (r *run) empty(ctx context.Context, c *connection) error {
	if err := c.send(unsubscribe{id: subscribeID, filter: r.filter}); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	quiet, unsubscribed := 0, false
	var counted time.Time
	for quiet < quietPings {
		r.inbox.room(ctx)
		packet, err := c.receive()
		if err != nil {
			return err
		}
		switch p := packet.(type) {
		case *message:
			if r.wanted(p) {
				quiet = 0
			}
			r.inbox.receive(p)
		case pubrel:
			if err := r.inbox.release(p.id); err != nil {
				return err
			}
		case unsuback:
			if p.code >= unspecified {
				return fmt.Errorf("the server refuses the end of the subscription to %s with reason 0x%02x", r.filter, p.code)
			}
			quiet, unsubscribed = 0, true
		case pingresp:
			switch {
			case !r.inbox.idle():
				quiet = 0
			case time.Since(counted) > r.o.pause/2: // a server that was held up answers several at once
				quiet, counted = quiet+1, time.Now()
			}
		case disconnect:
			return r.disconnected(p)
		default:
			return fmt.Errorf("packet %T was not expected", packet)
		}
	}
	if !unsubscribed {
		return errors.New("unsubscribe: no answer")
	}
	return ctx.Err() // what comes after its end is not taken
}
