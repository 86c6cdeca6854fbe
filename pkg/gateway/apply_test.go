package gateway

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/gateway/bus"
)

// away is a bus whose broker does not answer.
type away struct{ bus.Bus }

func (away) Unsubscribe(ctx context.Context, _ bus.Subscription) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestManySubscriptionsOfABrokerThatIsAwayHoldUpAReloadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{ctx: t.Context(), log: zap.NewNop().Sugar()}
		gone := map[string]*part{}
		for i := range 100 {
			gone[fmt.Sprint(i)] = &part{bus: &openBus{Bus: away{}, name: "bus"}, subscription: &bus.Subscription{Name: "s"}}
		}
		began := time.Now()
		g.unsubscribe(gone, &state{})
		if took := time.Since(began); took > unsubscribeTime {
			t.Errorf("took %s, want at most %s", took, unsubscribeTime)
		}
	})
}
