package jetstream

import (
	"context"
	"time"

	"github.com/openfunction/events/pkg/gateway/bus"
)

// Grants are the subjects of docs/examples/nats-jetstream.conf, without the topics of subscribers.
var Grants = grants

// LookEvery makes later subscriptions look so often for limits that nobody makes an end of.
func (b *Bus) LookEvery(d time.Duration) { b.lookEvery = d }

// Looks returns what looks as subscription s does, after another message of stream if it moves.
func (b *Bus) Looks(ctx context.Context, s bus.Subscription, stream string) (look func(moves bool)) {
	p := &part{stream: stream}
	sub := &subscription{Subscription: s, b: b, parts: map[string]*part{stream: p}}
	seen := looked{}
	return func(moves bool) {
		if moves {
			p.last++
		}
		seen = sub.lookAgain(ctx, b.await(ctx), seen)
	}
}
