package trigger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
)

func newEvent(t testing.TB, id string, extensions ...string) *event.Event {
	t.Helper()
	var b event.Binary
	set := append([]string{"specversion", "1.0", "id", id, "source", "/test", "type", "test"}, extensions...)
	for i := 0; i < len(set); i += 2 {
		if err := b.Set(set[i], set[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event("application/json", []byte(`{"id":"`+id+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// script is a bus that hands over what the test says, and keeps what became of it.
type script struct {
	bus.Bus
	receive chan func(*bus.Message)
	ready   func(error)
	mu      sync.Mutex
	done    map[string]error
	n       uint64
}

func (s *script) Subscribe(ctx context.Context, sub bus.Subscription, receive func(*bus.Message)) error {
	s.ready = sub.Ready
	s.ready(nil)
	s.receive <- receive
	<-ctx.Done()
	return nil
}

func (s *script) send(topic string, e *event.Event, malformed error) {
	s.hand(bus.Message{Event: e, Topic: topic, Stored: time.Now(), Malformed: malformed})
}

func (s *script) sendStored(topic string, e *event.Event, stored time.Time) {
	s.hand(bus.Message{Event: e, Topic: topic, Stored: stored})
}

func (s *script) hand(message bus.Message) {
	receive := <-s.receive
	s.n++
	message.Sequence = s.n
	m := bus.NewMessage(message, func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done[message.Event.ID()] = err
	})
	receive(m)
	s.receive <- receive
}

// acked returns the ids that are acknowledged, in order, and those that are not with a leading '!'.
func (s *script) acked() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, err := range s.done {
		if err != nil {
			id = "!" + id
		}
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// redelivery is how late the bus may hand over what an earlier process held.
const redelivery = 10 * time.Second

type fixture struct {
	*script
	deliver   func(e *event.Event) error
	mu        sync.Mutex
	delivered []string
	buried    []*event.Event
	stop      func()
}

func start(t *testing.T, sub plan.Subscriber) *fixture {
	t.Helper()
	return startLogged(t, sub, zap.NewNop())
}

func startLogged(t *testing.T, sub plan.Subscriber, log *zap.Logger) *fixture {
	t.Helper()
	f := &fixture{script: &script{receive: make(chan func(*bus.Message), 1), done: map[string]error{}}}
	if sub.Window == 0 {
		sub.Window = time.Minute
	}
	s, err := New(Options{
		Subscriber: sub, Bus: f.script,
		Deliver: event.HandlerFunc(func(_ context.Context, e *event.Event) error {
			if f.deliver != nil {
				if err := f.deliver(e); err != nil {
					return err
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.delivered = append(f.delivered, e.ID())
			return nil
		}),
		DeadLetter: event.HandlerFunc(func(_ context.Context, e *event.Event) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.buried = append(f.buried, e)
			return nil
		}),
		Redelivery: redelivery,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(logging.WithLogger(t.Context(), log.Sugar()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, nil) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) got() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.delivered)
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func subscriber(condition string) plan.Subscriber {
	return plan.Subscriber{
		ID: "default_t_1", Trigger: "default/t", Condition: condition,
		Inputs: []plan.Input{{Name: "a", Topic: "ta"}, {Name: "b", Topic: "tb"}},
	}
}

func TestAnEventThatFiresAloneIsAcknowledgedAfterDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a"))
		release := make(chan struct{})
		f.deliver = func(*event.Event) error { <-release; return nil }
		f.send("ta", newEvent(t, "a1"), nil)
		synctest.Wait()
		want(t, "acknowledged during delivery", f.acked(), nil)
		close(release)
		want(t, "delivered", f.got(), []string{"a1"})
		want(t, "acknowledged", f.acked(), []string{"a1"})
	})
}

func TestAnEventThatFiresNothingIsSaidAtDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for condition, fires := range map[string][]string{"a.data.id == 'a2'": {"a2"}, "a && b": {"b1"}} {
			core, logs := observer.New(zap.DebugLevel)
			f := startLogged(t, subscriber(condition), zap.New(core))
			f.send("ta", newEvent(t, "a1"), nil)
			f.send("ta", newEvent(t, "a2"), nil)
			f.send("tb", newEvent(t, "b1"), nil)
			want(t, condition+": delivered", f.got(), fires)
			var said []string
			for _, line := range logs.All() {
				fields := line.ContextMap()
				said = append(said, fmt.Sprintf("%s %s: %v %v %v", line.Level, line.Message, fields["trigger"], fields["id"], fields["condition"]))
			}
			var silent []string
			for _, id := range []string{"a1", "a2", "b1"} {
				if !slices.Contains(fires, id) {
					silent = append(silent, fmt.Sprintf("debug event fired nothing: default/t %s %s", id, condition))
				}
			}
			want(t, condition+": said", said, silent)
		}
	})
}

func TestAFailedDeliveryStaysOnTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a"))
		f.deliver = func(*event.Event) error { return errors.New("boom") }
		f.send("ta", newEvent(t, "a1"), nil)
		synctest.Wait()
		want(t, "acknowledged", f.acked(), []string{"!a1"})
	})
}

func TestASlowDeliveryDoesNotHoldUpTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a"))
		release := make(chan struct{})
		f.deliver = func(e *event.Event) error {
			if e.ID() == "slow" {
				<-release
			}
			return nil
		}
		f.send("ta", newEvent(t, "slow"), nil)
		f.send("ta", newEvent(t, "quick"), nil)
		want(t, "delivered", f.got(), []string{"quick"})
		close(release)
	})
}

func TestAJoinHoldsItsFirstLegUntilTheSecondIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		f.send("ta", newEvent(t, "a1"), nil)
		synctest.Wait()
		want(t, "acknowledged after the first leg", f.acked(), nil)
		release := make(chan struct{})
		f.deliver = func(*event.Event) error { <-release; return nil }
		f.send("tb", newEvent(t, "b1"), nil)
		synctest.Wait()
		want(t, "acknowledged during delivery", f.acked(), nil)
		close(release)
		want(t, "delivered", f.got(), []string{"b1"})
		want(t, "acknowledged", f.acked(), []string{"a1", "b1"})
	})
}

func TestAJoinThatIsNotDeliveredComesAgainWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		f.deliver = func(*event.Event) error { return errors.New("boom") }
		f.send("ta", newEvent(t, "a1"), nil)
		f.send("tb", newEvent(t, "b1"), nil)
		synctest.Wait()
		want(t, "acknowledged", f.acked(), []string{"!a1", "!b1"})
		f.deliver = nil
		f.send("ta", newEvent(t, "a1"), nil)
		f.send("tb", newEvent(t, "b1"), nil)
		want(t, "delivered", f.got(), []string{"b1"})
		want(t, "acknowledged at last", f.acked(), []string{"a1", "b1"})
	})
}

func TestAFirstLegThatNobodyCompletesIsAcknowledgedAfterItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		f.send("ta", newEvent(t, "a1"), nil)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		want(t, "acknowledged within the window", f.acked(), nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		want(t, "acknowledged after it", f.acked(), []string{"a1"})
		f.send("tb", newEvent(t, "b1"), nil)
		want(t, "delivered", f.got(), nil)
	})
}

func TestANewerFirstLegTakesThePlaceOfTheOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		f.send("ta", newEvent(t, "a1"), nil)
		time.Sleep(time.Millisecond)
		f.send("ta", newEvent(t, "a2"), nil)
		synctest.Wait()
		want(t, "acknowledged", f.acked(), []string{"a1"})
	})
}

func TestWhatIsHeldStaysOnTheBusWhenTheProcessEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		f.send("ta", newEvent(t, "a1"), nil)
		f.stop()
		want(t, "acknowledged", f.acked(), []string{"!a1"})
	})
}

func TestLatestKeepsItsInputsAndTheirMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub := subscriber("a && b")
		sub.Match = v1alpha1.MatchLatest
		f := start(t, sub)
		f.send("ta", newEvent(t, "a1"), nil)
		f.send("tb", newEvent(t, "b1"), nil)
		time.Sleep(time.Millisecond)
		f.send("tb", newEvent(t, "b2"), nil)
		want(t, "delivered", f.got(), []string{"b1", "b2"})
		want(t, "acknowledged while they count", f.acked(), []string{"b1"})
		time.Sleep(62 * time.Second)
		synctest.Wait()
		want(t, "acknowledged after the window", f.acked(), []string{"a1", "b1", "b2"})
	})
}

func TestAnEventThatFiresNothingIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("b"))
		f.send("ta", newEvent(t, "a1"), nil)
		want(t, "delivered", f.got(), nil)
		want(t, "acknowledged", f.acked(), []string{"a1"})
	})
}

func TestKindTellsApartEqualEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub := subscriber("a")
		sub.Inputs = []plan.Input{{Name: "a", Topic: "ta", Kind: "cron"}}
		f := start(t, sub)
		f.send("ta", newEvent(t, "k", "openfunctionkind", "kafka"), nil)
		f.send("ta", newEvent(t, "c", "openfunctionkind", "cron"), nil)
		want(t, "delivered", f.got(), []string{"c"})
		want(t, "acknowledged", f.acked(), []string{"c", "k"})
	})
}

func TestAllHoldsEveryMatchedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub := subscriber("a && b")
		sub.All = true
		f := start(t, sub)
		var sent *event.Event
		f.deliver = func(e *event.Event) error { sent = e; return nil }
		f.send("ta", newEvent(t, "a1"), nil)
		f.send("tb", newEvent(t, "b1"), nil)
		f.got()
		for _, id := range []string{"a1", "b1"} {
			if !strings.Contains(string(sent.Data()), id) {
				t.Errorf("data %s does not hold %s", sent.Data(), id)
			}
		}
	})
}

func TestAMessageThatIsNoEventIsDeadLettered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		f.send("ta", newEvent(t, "garbage"), errors.New("no JSON"))
		synctest.Wait()
		want(t, "acknowledged", f.acked(), []string{"garbage"})
		if len(f.buried) != 1 || f.buried[0].Extensions()[event.ErrorDestExtension] != "topic ta" {
			t.Errorf("dead letters: %v", f.buried)
		}
	})
}

func TestABurstOfFirstLegsHoldsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		for i := range 1000 {
			f.send("ta", newEvent(t, fmt.Sprintf("a%04d", i)), nil)
			time.Sleep(time.Microsecond)
		}
		synctest.Wait()
		if got := len(f.acked()); got != 999 {
			t.Errorf("%d of 1000 first legs are acknowledged, want 999", got)
		}
		f.send("tb", newEvent(t, "b"), nil)
		want(t, "delivered", f.got(), []string{"b"})
	})
}

func TestNewRefusesABadCondition(t *testing.T) {
	if _, err := New(Options{Subscriber: subscriber("a && c")}); err == nil || !strings.Contains(err.Error(), `unknown input "c"`) {
		t.Errorf("New() = %v, want an error about c", err)
	}
}

func TestWhatIsHeldWaitsForABusThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, subscriber("a && b"))
		f.send("ta", newEvent(t, "a1"), nil)
		stored := time.Now()
		time.Sleep(10 * time.Second)
		f.ready(errors.New("away"))
		time.Sleep(5 * time.Minute)
		f.ready(nil)
		synctest.Wait()
		want(t, "acknowledged while the bus was away", f.acked(), nil)
		f.sendStored("tb", newEvent(t, "b1"), stored.Add(time.Second)) // somebody else published it meanwhile
		synctest.Wait()
		want(t, "delivered", f.got(), []string{"b1"})
		want(t, "acknowledged", f.acked(), []string{"a1", "b1"})
	})
}

func TestWhatIsHeldWaitsForWhatTheBusDeliversAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub := subscriber("a && b")
		sub.Window = 2 * time.Second
		f := start(t, sub)
		// The process before was killed while it held a1.
		stored := time.Now()
		f.send("tb", newEvent(t, "b1"), nil)
		time.Sleep(redelivery - time.Second)
		f.sendStored("ta", newEvent(t, "a1"), stored.Add(-time.Second))
		synctest.Wait()
		want(t, "delivered", f.got(), []string{"b1"})
	})
}

func TestAJoinHasRoomForAllItsInputs(t *testing.T) {
	for _, tt := range []struct {
		name, condition string
		inputs          []plan.Input
		least           int // per topic
	}{
		{"inputs of two topics", "a && b", subscriber("a && b").Inputs, 2},
		{"inputs of one topic", "a && b", []plan.Input{{Name: "a", Topic: "t", Kind: "x"}, {Name: "b", Topic: "t", Kind: "y"}}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sub := subscriber(tt.condition)
			sub.Inputs = tt.inputs
			s, err := New(Options{Subscriber: sub, MaxInFlight: 1})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Subscription(); got.MaxInFlight/len(got.Topics) < tt.least {
				t.Errorf("MaxInFlight = %d for %d topics, want %d for each", got.MaxInFlight, len(got.Topics), tt.least)
			}
		})
	}
}
