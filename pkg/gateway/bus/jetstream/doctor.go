package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
)

// doctor finds out why nc is not connected: nats.go tells of the last server only, if at all. It tries connections of its own, so that nc is
// not held up.
type doctor struct {
	b  *Bus
	nc *nats.Conn

	cancel context.CancelFunc // nil while it does not run
	ended  chan struct{}
}

// start makes it look until stop.
func (d *doctor) start() {
	if d.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(d.b.ctx)
	d.cancel, d.ended = cancel, make(chan struct{})
	wait := time.Duration(0)
	if !errors.Is(d.b.why(), bus.ErrConnecting) {
		wait = reopenWait // nc may well be back by then
	}
	go func() {
		defer close(d.ended)
		for timer := time.NewTimer(wait); ; timer.Reset(wait) {
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			if err := d.look(ctx); err != nil && ctx.Err() == nil {
				d.b.away(d.nc, err)
			}
			wait = min(max(2*wait, reconnectMin), lookMax)
		}
	}()
}

// lookMax is the longest pause between two looks.
const lookMax = 5 * time.Second

func (d *doctor) stop() {
	if d.cancel == nil {
		return
	}
	d.cancel()
	<-d.ended
	d.cancel = nil
}

// look returns why no server lets us in, or nil if one does.
func (d *doctor) look(ctx context.Context) error {
	b := d.b
	if b.o.InProcess != nil {
		if err := d.nc.LastError(); err != nil {
			return b.explain(err)
		}
		return nats.ErrNoServers
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the dialer leaves something with ctx for each connection
	nc, err := natsaccess.Connect(ctx, natsaccess.Servers{
		Access: b.o.Config.NATSAccess, URL: b.o.Config.URL, Field: "url", Dial: &dialer{b: b, ctx: ctx},
	}, nats.Name("openfunction-events "+b.o.Name), nats.Timeout(requestTimeout))
	if err == nil {
		nc.Close()
	}
	return err
}

// away says why there is no connection, unless there is one by now.
func (b *Bus) away(nc *nats.Conn, err error) {
	b.mu.Lock()
	known := b.err != nil
	if known && b.current.Load() == nil && !nc.IsConnected() {
		b.err = err
	}
	b.mu.Unlock()
	if !known {
		b.lose(err)
	}
}
