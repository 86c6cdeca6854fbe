//go:build e2e

package jetstream_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func processFixture(c plan.JetStream) bustest.Fixture {
	c.AckWait = ackWait
	return bustest.Fixture{
		New: func(testing.TB) bus.Bus {
			return jetstream.New(context.Background(), jetstream.Options{Name: "EventBus test/test", Config: c})
		},
		AckWait: ackWait,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			nc, err := nats.Connect(c.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Request(topic, data, 5*time.Second); err != nil {
				t.Fatalf("publish to %s: %v", topic, err)
			}
		},
		Dedup: true,
	}
}

// A real server that is killed with SIGKILL.
func TestE2EConformance(t *testing.T) {
	s := servers.JetStream(t)
	f := processFixture(plan.JetStream{URL: s.URL()})
	f.Stop, f.Start = func(testing.TB) { s.Kill() }, func(testing.TB) { s.Start() }
	bustest.Run(t, f)
}
