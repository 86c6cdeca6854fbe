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

// A real server that is killed with SIGKILL.
func TestE2EConformance(t *testing.T) {
	s := servers.JetStream(t)
	bustest.Run(t, bustest.Fixture{
		New: func(testing.TB) bus.Bus {
			return jetstream.New(context.Background(), jetstream.Options{
				Name: "EventBus test/test", Config: plan.JetStream{URL: s.URL(), AckWait: ackWait},
			})
		},
		AckWait: ackWait,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			nc, err := nats.Connect(s.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Request(topic, data, 5*time.Second); err != nil {
				t.Fatalf("publish to %s: %v", topic, err)
			}
		},
		Dedup: true,
		Stop:  func(testing.TB) { s.Kill() },
		Start: func(testing.TB) { s.Start() },
	})
}
