package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
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

// does is a bus whose topics do what it says.
type does struct {
	bus.Bus
	publish func(topic string) error
}

func (does) Ready() error                                        { return nil }
func (does) Close() error                                        { return nil }
func (does) Unsubscribe(context.Context, bus.Subscription) error { return nil }

func (d does) Topic(t bus.Topic) event.Handler {
	return event.HandlerFunc(func(context.Context, *event.Event) error { return d.publish(t.Name) })
}

// Where the broker has cut off the user of before, only what has the new one can publish, also while the subscribers of before end; but not on a
// topic whose subscriptions are not there yet.
func TestABusThatIsCutOffHasASuccessorWhileItsSubscribersEnd(t *testing.T) {
	r := startLogged(t, zap.NewNop(), func(*Options) {})
	var subscribed atomic.Bool
	opened := func(publish func(topic string) error) *openBus {
		return &openBus{Bus: does{publish: publish}, name: "bus", gate: &gate{}, closed: make(chan struct{})}
	}
	old := opened(func(string) error { return &event.Unavailable{What: "bus", Err: errors.New("cut off")} })
	next := opened(func(topic string) error {
		if topic == "subscribed" && !subscribed.Load() {
			t.Error("an event is published that might be kept for nobody")
		}
		return nil
	})
	ends := &part{name: "s", bus: old, subscription: &bus.Subscription{Name: "s"}, cancel: func() {}, done: make(chan struct{})}
	begins := &part{name: "s", bus: next, subscription: &bus.Subscription{Name: "s", Topics: []string{"subscribed"}}}
	begins.run = func(ctx context.Context, ready func(error)) error {
		subscribed.Store(true)
		ready(nil)
		<-ctx.Done()
		return nil
	}
	end := sync.OnceFunc(func() { close(ends.done) })
	defer end()
	replaced := make(chan struct{})
	go func() {
		defer close(replaced)
		r.applying.Lock()
		defer r.applying.Unlock()
		r.buses, r.subscribers = map[string]*openBus{"bus": old}, map[string]*part{"s": ends}
		r.replace(&state{buses: map[string]*openBus{"bus": next}, subscribers: map[string]*part{"s": begins}})
	}()
	other, topic := old.publish(plan.Source{Topic: "other"}), old.publish(plan.Source{Topic: "subscribed"})
	eventually(t, "an event that nobody waits for", func() error { return other.Handle(t.Context(), nil) })
	select {
	case <-replaced:
		t.Error("the subscribers of before have ended already")
	default:
	}
	waits := make(chan error, 1)
	go func() { waits <- topic.Handle(t.Context(), nil) }()
	end()
	<-replaced
	if err := <-waits; err != nil && !errors.Is(err, errSubscribing) { // the machine may stall
		t.Error(err)
	}
	eventually(t, "an event of the subscription", func() error { return topic.Handle(t.Context(), nil) })
	select {
	case <-old.closed:
	default:
		t.Error("nobody is told that the bus before is closed")
	}
}
