package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
)

func TestConformance(t *testing.T) {
	b := startBroker(t)
	bustest.Run(t, bustest.Fixture{
		New:     func(t testing.TB) bus.Bus { return connect(t, config(b.addr())) },
		AckWait: time.Second,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			publishRaw(t, b.addr(), &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("bustest"), Value: sarama.ByteEncoder(data)})
		},
		Stop:  b.stop,
		Start: b.start,
	})
}
