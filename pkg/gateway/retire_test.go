package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
)

// broker is a JetStream server that gateways reach by any address, except while it is away.
type broker struct {
	*embedded.Server
	away atomic.Bool
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	server, err := embedded.Start(embedded.Options{SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &broker{Server: server}
}

func (b *broker) dial(context.Context, string, string) (net.Conn, error) {
	if b.away.Load() {
		return nil, errors.New("connection refused")
	}
	return b.InProcessConn()
}

// subscriptions are the names of the durable subscriptions to events.
func (b *broker) subscriptions(t *testing.T) []string {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(b))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "openfunction-events")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for name := range stream.ConsumerNames(t.Context()).Name() {
		if !strings.Contains(name, "~") { // the bus's own
			names = append(names, name)
		}
	}
	return names
}

func (b *broker) wants(t *testing.T, names ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, names...), b.subscriptions(t)); diff != "" {
		t.Errorf("subscriptions on the broker (-want +got):\n%s", diff)
	}
}

// over is p with its bus replaced by one on a JetStream server.
func over(name, url string, p *plan.Plan) *plan.Plan {
	p.Buses[0] = plan.Bus{Name: name, JetStream: &plan.JetStream{URL: url, Replicas: 1, AckWait: time.Second, MaxInFlight: 16}}
	for i := range p.Sources {
		p.Sources[i].Bus = name
	}
	for i := range p.Subscribers {
		p.Subscribers[i].Bus = name
	}
	return p
}

func TestAnotherNameOfTheSameBrokerKeepsSubscriptionsAndTheirBacklog(t *testing.T) {
	b := newBroker(t)
	r := startWith(t, func(o *Options) { o.Dial = b.dial })
	join := plan.Subscriber{ID: "s", Condition: "a && b", Sink: display("joined")}
	r.apply(t, over("EventBus default/default", "nats://broker", onePath(join)))
	r.mustPost(t, "a", "a1")
	r.apply(t, over("ClusterEventBus default", "nats://broker", onePath(join)))
	b.wants(t, "s")
	r.mustPost(t, "b", "b1")
	r.wants(t, "default/t -> sink default/joined: b1")
}

func TestWhatWaitsOnABrokerThatIsLeftStaysThere(t *testing.T) {
	brokers := map[string]*broker{"one:4222": newBroker(t), "two:4222": newBroker(t)}
	r := startWith(t, func(o *Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			return brokers[address].dial(ctx, network, address)
		}
	})
	join := plan.Subscriber{ID: "s", Condition: "a && b", Sink: display("joined")}
	one := func() *plan.Plan { return over("ClusterEventBus default", "nats://one", onePath(join)) }
	r.apply(t, one())
	r.mustPost(t, "a", "a1")
	r.apply(t, over("EventBus default/default", "nats://two", onePath(join)))
	brokers["one:4222"].wants(t, "s")
	brokers["two:4222"].wants(t, "s")
	r.apply(t, one()) // with the new bus deleted, what waits goes on
	r.mustPost(t, "b", "b1")
	r.wants(t, "default/t -> sink default/joined: b1")
}

func TestWhichSubscriptionsApplyRemoves(t *testing.T) {
	const old, other = "EventBus default/old", "EventBus default/other"
	s := plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")}
	plain := func() *plan.Plan { return over(old, "nats://broker", onePath(s)) }
	for _, tt := range []struct {
		name string
		next func() *plan.Plan
		want []string
	}{
		{"one that lives on under another name of the broker stays", func() *plan.Plan { return over(other, "nats://broker", onePath(s)) }, []string{"s"}},
		{"one that is dropped goes", func() *plan.Plan { return over(old, "nats://broker", onePath()) }, nil},
		{"one that is dropped with its bus goes", func() *plan.Plan { return over(other, "nats://broker", onePath()) }, nil},
		{"one whose bus has other settings now stays", func() *plan.Plan {
			p := plain()
			p.Buses[0].JetStream.MaxInFlight++
			return p
		}, []string{"s"}},
		{"one that is dropped when its bus leads elsewhere stays there", func() *plan.Plan { return over(old, "nats://elsewhere", onePath()) }, []string{"s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBroker(t)
			r := startWith(t, func(o *Options) { o.Dial = b.dial })
			r.apply(t, plain())
			b.wants(t, "s")
			r.apply(t, tt.next())
			b.wants(t, tt.want...)
		})
	}
}

func TestARetiredSubscriptionIsRemovedWhenItsBrokerIsBack(t *testing.T) {
	b := newBroker(t)
	plain := func(subscribers ...plan.Subscriber) *plan.Plan {
		return over("bus", "nats://broker", onePath(subscribers...))
	}
	keep, drop := plan.Subscriber{ID: "keep", Condition: "a", Sink: display("x")}, plan.Subscriber{ID: "drop", Condition: "a", Sink: display("y")}
	before := startWith(t, func(o *Options) { o.Dial = b.dial })
	before.apply(t, plain(keep, drop))
	before.stop()

	b.away.Store(true)
	r := startWith(t, func(o *Options) { o.Dial = b.dial })
	p := plan.Succeed(plain(keep, drop), plain(keep))
	if err := r.Apply(p); err != nil {
		t.Fatal(err)
	}
	if got := r.Report().Retired; got != nil {
		t.Errorf("retired %q while the broker is away", got)
	}
	b.away.Store(false)
	eventually(t, "retired", func() error {
		if got := r.Report().Retired; !cmp.Equal(got, []string{"drop"}) {
			return fmt.Errorf("retired %q", got)
		}
		return nil
	})
	b.wants(t, "keep")
	r.apply(t, plain(keep, drop))
	b.wants(t, "drop", "keep")
	if got := r.Report().Retired; got != nil {
		t.Errorf("retired %q, which the plan has again", got)
	}
}

func TestAnIDOnTwoBusesIsToldWhenItIsOnNone(t *testing.T) {
	b := newBroker(t)
	r := startWith(t, func(o *Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "gone:4222" {
				return nil, errors.New("connection refused")
			}
			return b.dial(ctx, network, address)
		}
	})
	p := over("a", "nats://broker", onePath())
	p.Buses = append(p.Buses, over("b", "nats://gone", onePath()).Buses[0])
	topics := []string{plan.Topic("default", "es", "a")}
	p.Retired = []plan.Retired{{Bus: "a", ID: "both", Topics: topics}, {Bus: "b", ID: "both", Topics: topics}, {Bus: "a", ID: "one", Topics: topics}}
	r.apply(t, p) // it is ready although the bus b, which has nothing else, is away
	eventually(t, "retired", func() error {
		for _, one := range r.retired {
			if one.bus.name == "a" && !one.removed.Load() {
				return errors.New("not yet")
			}
		}
		return nil
	})
	if got := r.Report().Retired; !cmp.Equal(got, []string{"one"}) {
		t.Errorf("retired %q, want only one", got)
	}
}

// comesBack is a bus whose broker answers the third time.
type comesBack struct {
	bus.Bus
	asked *int
}

func (c comesBack) Unsubscribe(context.Context, bus.Subscription) error {
	if *c.asked++; *c.asked < 3 {
		return errors.New("connection refused")
	}
	return nil
}

func TestARetirementTriesUntilItIsDoneOrNotWanted(t *testing.T) {
	asked := 0
	for name, tt := range map[string]struct {
		bus  bus.Bus
		want bool
	}{
		"a broker that comes back": {comesBack{asked: &asked}, true},
		"a broker that is gone":    {away{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &Gateway{ctx: t.Context(), log: zap.NewNop().Sugar()}
				next := &state{buses: map[string]*openBus{"bus": {Bus: tt.bus, name: "bus"}}, retired: map[string]*retirement{}}
				g.retire(next, []plan.Retired{{Bus: "bus", ID: "s"}})
				g.beginRetirements(next.retired)
				g.retired = next.retired
				time.Sleep(time.Hour)
				if got := g.retired[retiredKey("bus", "s")].removed.Load(); got != tt.want {
					t.Errorf("removed: %v, want %v", got, tt.want)
				}
				g.endRetirements(nil) // the bubble would find a goroutine that is left
			})
		})
	}
}

func TestAtTheEndOfAWorkloadNothingStaysOnTheBus(t *testing.T) {
	for gone, want := range map[bool][]string{true: nil, false: {"s"}} {
		b := newBroker(t)
		asked := 0
		r := startWith(t, func(o *Options) {
			o.Dial = b.dial
			o.AtEnd = func(context.Context) bool { asked++; return gone }
		})
		r.apply(t, over("bus", "nats://broker", onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")})))
		r.stop()
		b.wants(t, want...)
		if asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
	}
}

func TestABrokerThatIsAwayDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{ctx: t.Context(), log: zap.NewNop().Sugar(), subscribers: map[string]*part{}}
		g.o.AtEnd = func(ctx context.Context) bool { <-ctx.Done(); return true }
		for i := range 100 {
			g.subscribers[fmt.Sprint(i)] = &part{bus: &openBus{Bus: away{}, name: "bus"}, subscription: &bus.Subscription{Name: "s"}}
		}
		began := time.Now()
		g.leave(t.Context())
		if took := time.Since(began); took != 2*endTime {
			t.Errorf("took %s, want %s", took, 2*endTime)
		}
	})
}
