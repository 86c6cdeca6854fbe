package jetstream_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

// A limit of the server's is said once, with its cure, and is over when there is room.
func TestASubscriptionTooManyIsSaidOnce(t *testing.T) {
	t.Parallel()
	s := guarded(t, &server.Options{Users: []*server.User{{Username: "u", Password: "p"}}})
	limit := func(consumers int) {
		t.Helper()
		l := server.JetStreamAccountLimits{MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: consumers} // of each stream
		if err := s.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": l}); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	core, logs := observer.New(zap.InfoLevel)
	b := jetstream.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), jetstream.Options{
		Name: "EventBus a/b", Config: plan.JetStream{URL: s.ClientURL(), NATSAccess: plan.NATSAccess{Username: "u", Password: "p"}},
	})
	t.Cleanup(func() { _ = b.Close() })
	first, in := &state{}, &state{}
	first.begin(t, b, "first", "metrics") // a stream of its own; that of events has a consumer for half a minute
	eventually(t, "the first subscription is ready", func() bool { return first.ready() == nil })
	in.begin(t, b, "s", "metrics")
	eventually(t, "the limit is told", func() bool {
		err := in.ready()
		return bus.IsRefused(err) && strings.Contains(err.Error(), "maximum consumers limit reached") && strings.Contains(err.Error(), "raise max_consumers")
	})
	time.Sleep(time.Second) // for tries that would say it again
	limit(-1)
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	said := logs.FilterField(zap.String("subscription", "s")).All()
	if len(said) != 2 || said[0].Level != zapcore.WarnLevel || said[0].Message != "subscription cannot be set up" || said[0].ContextMap()["bus"] != "EventBus a/b" ||
		said[1].Message != "subscription receives now" {
		t.Errorf("logged %v, want once that it cannot be set up and once that it receives", said)
	}
}
