package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
)

var (
	errRefused    = bus.Refused(errors.New("maximum consumers limit reached: raise it"))
	errUnanswered = errors.New("no leader")
)

// gated is a bus with subscribers that say nothing by themselves.
type gated struct {
	*Gateway
	t       *testing.T
	bus     *openBus
	reports map[string]func(error)
}

// gated must be called in a bubble of synctest.
func newGated(t *testing.T) *gated {
	ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
	return &gated{
		Gateway: &Gateway{ctx: ctx, log: zap.NewNop().Sugar()}, t: t, reports: map[string]func(error){},
		bus: &openBus{Bus: does{publish: func(string) error { return nil }}, name: "bus", gate: &gate{}, closed: make(chan struct{})},
	}
}

// begin starts a subscriber of each name, whose part has it, besides those that run.
func (g *gated) begin(topics []string, names ...string) {
	all := map[string]*part{}
	for name, p := range g.subscribers {
		all[name] = p
	}
	for _, name := range names {
		p := &part{name: name, bus: g.bus, subscription: &bus.Subscription{Name: name, Topics: topics}}
		p.run = func(ctx context.Context, ready func(error)) error {
			g.reports[name] = ready
			<-ctx.Done()
			return nil
		}
		all[name] = p
		g.t.Cleanup(func() { p.cancel() })
	}
	g.bus.gate.expect(g.bus, all)
	g.Gateway.begin(all, g.subscribers)
	g.subscribers = all
	synctest.Wait()
}

// publish publishes an event, and returns its error after at most gateTime.
func (g *gated) publish(topic string) error {
	return g.bus.publish(plan.Source{Topic: topic}).Handle(g.t.Context(), nil)
}

func (g *gated) wantsOpen(topic string) {
	g.t.Helper()
	began := time.Now()
	if err := g.publish(topic); err != nil || time.Since(began) > 0 {
		g.t.Errorf("publish on %s = %v after %s, want nil at once", topic, err, time.Since(began))
	}
}

func (g *gated) wantsClosed(topic, why string) {
	g.t.Helper()
	err := g.publish(topic)
	var away *event.Unavailable
	if !errors.As(err, &away) || !errors.Is(err, errSubscribing) || !strings.HasSuffix(err.Error(), why) {
		g.t.Errorf("publish on %s = %v, want that it is unavailable: ...%s", topic, err, why)
	}
}

// fails has a subscriber report, once a second for so long.
func (g *gated) fails(name string, err error, long time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(time.Second) {
		g.reports[name](err)
	}
	g.reports[name](err)
}

func TestASubscriptionThatIsRefusedStopsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t)
		g.begin([]string{"a"}, "t1")
		g.wantsClosed("a", "not set up yet: t1: starting")
		g.wantsOpen("other")
		g.reports["t1"](nil)
		g.wantsOpen("a")

		g.begin([]string{"a", "b"}, "t2", "t3") // a reload
		g.wantsClosed("a", "not set up yet: t2: starting")
		g.reports["t3"](nil)
		g.fails("t2", errRefused, gateRefused-time.Second)
		g.wantsClosed("a", "not set up yet: t2: maximum consumers limit reached: raise it")
		g.reports["t2"](errRefused)
		g.wantsOpen("a")
		g.wantsOpen("b")

		g.begin([]string{"b"}, "t4") // t2 is not waited for again
		g.wantsOpen("a")
		g.reports["t4"](nil)
		g.wantsOpen("b")
		g.reports["t2"](nil)
		g.reports["t2"](errRefused)
		g.wantsOpen("a")
	})
}

func TestOnlyRefusalsInARowEndTheWait(t *testing.T) {
	for name, other := range map[string]error{
		"the bus was away": &event.Unavailable{What: "bus", Err: errors.New("connection refused")},
		"nobody answered":  errUnanswered,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGated(t)
				g.begin([]string{"a"}, "t")
				g.fails("t", other, time.Hour)
				g.wantsClosed("a", "t: "+other.Error())
				g.fails("t", errRefused, gateRefused-time.Second)
				g.reports["t"](other)
				g.fails("t", errRefused, gateRefused-time.Second)
				g.wantsClosed("a", "t: "+errRefused.Error())
				g.begin([]string{"b"}, "u") // a reload does not begin anew
				g.reports["t"](errRefused)
				g.wantsOpen("a")
			})
		})
	}
}

// An event that waits is published as soon as it may be, and another one is told the same of several subscribers each time.
func TestWhoWaitsForWhatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t)
		names := []string{"t2", "t1", "t3"}
		g.begin([]string{"a"}, names...)
		for range 10 {
			g.wantsClosed("a", "t1: starting")
		}
		for _, name := range slices.Sorted(slices.Values(names)) {
			g.fails(name, errRefused, gateRefused-time.Second)
		}
		waits := make(chan error, 1)
		go func() { waits <- g.publish("a") }()
		time.Sleep(time.Second)
		for _, name := range names {
			g.reports[name](errRefused)
		}
		began := time.Now()
		if err := <-waits; err != nil || time.Since(began) > 0 {
			t.Errorf("publish = %v after %s, want nil at once", err, time.Since(began))
		}
	})
}
