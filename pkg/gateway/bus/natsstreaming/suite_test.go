package natsstreaming

import (
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
)

func TestConformance(t *testing.T) {
	s := startBroker(t, t.TempDir())
	bustest.Run(t, bustest.Fixture{
		New:        func(t testing.TB) bus.Bus { return connect(t, instance(), config(s.url())) },
		AckWait:    time.Second,
		PublishRaw: func(t testing.TB, topic string, data []byte) { publishRaw(t, s.url(), topic, data) },
		Stop:       s.stop,
		Start:      s.start,
	})
}
