package dispatch

import (
	"context"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/flood"
)

// outage says that deliveries to a target fail, and that they are taken again.
type outage struct{ flood.Outage }

// begins is called after each attempt that another one follows.
func (o *outage) begins(ctx context.Context, e *event.Event, err error) {
	if !event.IsSaid(err) && o.Begins() {
		logging.FromContext(ctx).Warnw("event is not taken, trying again", "id", event.Short(e.ID()), "error", err)
	}
}

// ends is called after each delivery.
func (o *outage) ends(ctx context.Context, e *event.Event) {
	if o.Ends() {
		logging.FromContext(ctx).Infow("events are taken again", "id", event.Short(e.ID()))
	}
}
