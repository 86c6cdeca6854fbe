package kafka

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/bus"
)

// What the brokers refuse is said once, with its cure, and is over when somebody has done that.
func TestASubscriptionToATopicThatCannotBeMadeIsSaidOnce(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	c := config(b.addr())
	c.ReplicationFactor = 3
	core, logs := observer.New(zap.InfoLevel)
	in := start(t, connectLogged(t, c, zap.New(core)), bus.Subscription{Name: "s", Topics: []string{"topic"}}, nil)
	eventually(t, "the refusal is told", func() bool {
		err := in.ready()
		return bus.IsRefused(err) && strings.Contains(err.Error(), "lower replicationFactor, or start the brokers that are missing")
	})
	publish(t, connect(t, config(b.addr())), "topic", "e") // makes it
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	said := logs.FilterField(zap.String("subscription", "s")).All()
	if len(said) != 2 || said[0].Level != zapcore.WarnLevel || said[0].Message != "subscription cannot be set up" || said[0].ContextMap()["bus"] != "EventBus default/default" ||
		said[1].Message != "subscription receives now" {
		t.Errorf("logged %v, want once that it cannot be set up and once that it receives", said)
	}
}
