package natsstreaming

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccesstest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// fixture is of a server that speaks TLS and has the users of secure.
func fixture(t testing.TB, url string, authority *servers.Authority) bustest.Fixture {
	right := config(url)
	right.NATSAccess = plan.NATSAccess{Username: "events", Password: "right-s3cret", TLS: &plan.TLS{CACerts: authority.Cert}}
	open := func(ctx context.Context, c plan.NATSStreaming) bus.Bus {
		return New(ctx, Options{Name: "EventBus default/default", Config: c, Instance: instance()})
	}
	silent := logging.WithLogger(context.Background(), zap.NewNop().Sugar())
	options, err := natsaccess.Options(right.NATSAccess)
	if err != nil {
		t.Fatal(err)
	}
	f := bustest.Fixture{
		New:     func(testing.TB) bus.Bus { return open(silent, right) },
		AckWait: time.Second,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			publishRaw(t, url, topic, data, options...)
		},
		Other: func(testing.TB) bus.Bus {
			c := right
			c.Username, c.Password = "other", "other-s3cret"
			return open(silent, c)
		},
		Refusals: natsaccesstest.Refusals(t, right.NATSAccess, servers.NewAuthority(t).Cert, func(ctx context.Context, a plan.NATSAccess) bus.Bus {
			c := right
			c.NATSAccess = a
			return open(ctx, c)
		}),
	}
	for _, wrong := range []struct {
		name   string
		change func(*plan.NATSStreaming)
		want   string
	}{
		{"permissions that are too few", func(c *plan.NATSStreaming) { c.Username = "few" }, `"_STAN.discover.stan"): permit to publish`},
		{"no permission to receive acknowledgements", func(c *plan.NATSStreaming) { c.Username = "deaf" }, `Permissions Violation for Subscription to "_STAN.acks.`},
		{"an address where nobody listens", func(c *plan.NATSStreaming) { c.URL = "nats://events:right-s3cret@127.0.0.1:1" }, "dial tcp 127.0.0.1:1: connect: connection refused: start the server, or correct natsURL"},
		{"a wrong cluster id", func(c *plan.NATSStreaming) { c.ClusterID = "wrong" }, `no NATS Streaming cluster "wrong" answers there: correct natsStreamingClusterID or natsURL`},
		{"a client id that the server refuses", func(c *plan.NATSStreaming) { c.ClientID = "not valid" }, "invalid clientID"},
	} {
		c := right
		wrong.change(&c)
		f.Refusals = append(f.Refusals, bustest.Refusal{
			Name: wrong.name, Want: []string{"connect to " + plan.HideURL(c.URL) + ": ", wrong.want}, Secret: c.Password,
			New: func(ctx context.Context, _ testing.TB) bus.Bus { return open(ctx, c) },
		})
	}
	return f
}

// alone is fixture for the subscription type topic: a subscription is of one client id, and so of one instance.
func alone(url string) bustest.Fixture {
	c := config(url)
	c.Queue = false
	silent := logging.WithLogger(context.Background(), zap.NewNop().Sugar())
	return bustest.Fixture{
		New: func(t testing.TB) bus.Bus {
			return New(silent, Options{Name: "EventBus default/default", Config: c, Instance: t.Name()})
		},
		AckWait:    time.Second,
		Alone:      true,
		PublishRaw: func(t testing.TB, topic string, data []byte) { publishRaw(t, url, topic, data) },
	}
}

func TestConformance(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := launch(t, &broker{port: servers.FreePort(t), dir: t.TempDir(), payload: 8 << 20, authority: servers.NewAuthority(t)})
	f := fixture(t, s.url(), s.authority)
	f.Stop, f.Start = s.stop, s.start
	bustest.Run(t, f)
}
