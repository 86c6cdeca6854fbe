//go:build e2e

package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/test/servers"
)

func TestE2EConformance(t *testing.T) {
	s := servers.Kafka(t)
	bustest.Run(t, bustest.Fixture{
		New:     func(t testing.TB) bus.Bus { return connect(t, config(s.Addr())) },
		AckWait: time.Second,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			publishRaw(t, s.Addr(), &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("bustest"), Value: sarama.ByteEncoder(data)})
		},
		Stop:  func(testing.TB) { s.Kill() },
		Start: func(testing.TB) { s.Start() },
	})
}
