package memory_test

import (
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/memory"
)

func TestConformance(t *testing.T) {
	broker := memory.New()
	bustest.Run(t, bustest.Fixture{
		New:     func(testing.TB) bus.Bus { return broker.Connect() },
		AckWait: 200 * time.Millisecond,
	})
}
