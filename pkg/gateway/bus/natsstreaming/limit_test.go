package natsstreaming

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/test/servers"
)

// A limit of the server's is said once, with its cure, and is over when it is raised.
func TestAChannelTooManyIsSaidOnce(t *testing.T) {
	t.Parallel()
	s := launch(t, &broker{port: servers.FreePort(t), dir: t.TempDir(), payload: 1 << 20, channels: 1})
	core, logs := observer.New(zap.InfoLevel)
	b := New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus a/b", Config: config(s.url()), Instance: instance()})
	t.Cleanup(func() { _ = b.Close() })
	in := startSubscription(t, b, bus.Subscription{Name: "s", Topics: []string{"one", "two"}})
	eventually(t, "the limit is told", func() bool {
		err := in.ready()
		return bus.IsRefused(err) && strings.Contains(err.Error(), "too many channels: make room or raise its limit (max_channels")
	})
	s.stop(t)
	eventually(t, "the bus is away", func() bool { return b.Ready() != nil })
	s.channels = 2
	s.start(t)
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	said := logs.FilterField(zap.String("subscription", "s")).All()
	if len(said) != 2 || said[0].Level != zapcore.WarnLevel || said[0].Message != "subscription cannot be set up" || said[0].ContextMap()["bus"] != "EventBus a/b" ||
		said[1].Message != "subscription receives now" {
		t.Errorf("logged %v, want once that it cannot be set up and once that it receives", said)
	}
}
