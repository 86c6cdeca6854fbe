package bustest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// Refusal is a connection to the broker that somebody has to correct something for: its credentials, whom it trusts, its address.
type Refusal struct {
	// Name says what is wrong, for example "a wrong password". It is the name of a case.
	Name string
	// New returns the connection. Its logger is that of ctx. The suite closes it.
	New func(ctx context.Context, t testing.TB) bus.Bus
	// Want is what Ready's error contains: who or what is refused, and what to correct.
	Want []string
	// Secret is what must be told nobody, in no error and in no line of the log. Empty if there is none.
	Secret string
}

// RunAccess runs only the cases for which f.Refusals and f.Other are, against a broker that lets in by other means than the one of Run.
func RunAccess(t *testing.T, f Fixture) {
	f.together(t, f.refusals())
	if f.Other != nil {
		t.Run(rotates.name, func(t *testing.T) { f.run(t, rotates) })
	}
}

func (f Fixture) refusals() (list []testCase) {
	for _, r := range f.Refusals {
		list = append(list, testCase{r.Name + ": it is said, and corrected nothing is lost", r.run})
	}
	return list
}

// run has a connection that is refused between two that are not, and another one beside it.
func (r Refusal) run(h *harness) {
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}}
	good := h.bus()
	h.subscribe(good, s, nil).stop()
	beside := h.subscribe(good, bus.Subscription{Name: h.name("beside"), Topics: []string{name}}, nil)

	core, logs := observer.New(zap.DebugLevel)
	bad := r.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), h.T)
	h.Cleanup(func() {
		if h.Failed() {
			h.Logf("Ready() = %v, logged %v", bad.Ready(), logs.All())
		}
		_ = bad.Close()
	})
	refused := h.start(bad, s, nil)
	r.tellsNobody(h, h.refused(bad.Topic(bus.Topic{Name: name})).Error())
	h.eventually(fmt.Sprintf("Ready says %q", r.Want), func() bool { return r.isSaid(bad.Ready()) })
	h.eventually("the log says it too", func() bool { return r.isLogged(logs.All()) })

	meanwhile := numbers("meanwhile-", 20)
	h.publishAll(good.Topic(bus.Topic{Name: name}), meanwhile...)
	h.never("the bus says something else, or the subscription ends", 2*h.f.AckWait, func() bool { return !r.isSaid(bad.Ready()) || refused.isReady() || refused.hasEnded() })
	r.tellsNobody(h, bad.Ready().Error())
	r.isLoggedOnce(h, logs.All())
	if err := good.Ready(); err != nil || !beside.isReady() {
		h.Errorf("of the connection beside, Ready() = %v and its subscription is ready: %v, want both", err, beside.isReady())
	}
	beside.want(len(meanwhile))
	h.eachOnce(meanwhile, beside.ids())

	if err := bad.Close(); err != nil {
		h.Errorf("Close() = %v, want nil", err)
	}
	refused.waitEnd()
	corrected := h.bus()
	in := h.subscribe(corrected, s, nil)
	h.publishAll(corrected.Topic(bus.Topic{Name: name}), "after")
	h.receivesAll(append(meanwhile, "after"), in)
}

func (r Refusal) isSaid(err error) bool {
	return err != nil && r.isIn(err.Error()) && !strings.Contains(err.Error(), "\n")
}

func (r Refusal) isLogged(logs []observer.LoggedEntry) bool {
	return slices.ContainsFunc(logs, func(l observer.LoggedEntry) bool {
		return l.Level >= zapcore.WarnLevel && r.isIn(fmt.Sprint(l.Message, l.ContextMap()))
	})
}

func (r Refusal) isIn(text string) bool {
	return !slices.ContainsFunc(r.Want, func(want string) bool { return !strings.Contains(text, want) })
}

func (r Refusal) tellsNobody(h *harness, text string) {
	h.Helper()
	if r.Secret != "" && strings.Contains(text, r.Secret) {
		h.Errorf("the secret %s is told: %s", r.Secret, text)
	}
}

// isLoggedOnce wants no line twice, however many attempts there were.
func (r Refusal) isLoggedOnce(h *harness, logs []observer.LoggedEntry) {
	h.Helper()
	messages := map[string]bool{}
	for _, l := range logs {
		r.tellsNobody(h, fmt.Sprint(l.Message, l.ContextMap()))
		if l.Level < zapcore.InfoLevel {
			continue
		}
		if messages[l.Message] {
			h.Errorf("%q is logged more than once", l.Message)
		}
		messages[l.Message] = true
	}
}

var rotates = testCase{"credentials that change while events pass lose nothing", rotation}

// rotation goes over to other credentials and back, as the gateway does: the new connection is there before the old one is closed.
func rotation(h *harness) {
	const publishers, events, rounds = 4, 200, 4
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}}
	var topic atomic.Pointer[event.Handler]
	publishOn := func(b bus.Bus) {
		to := b.Topic(bus.Topic{Name: name})
		topic.Store(&to)
	}
	current := event.HandlerFunc(func(ctx context.Context, e *event.Event) error { return (*topic.Load()).Handle(ctx, e) })

	b := h.bus()
	in := []*recorder{h.subscribe(b, s, nil)}
	publishOn(b)
	ctx, stop := context.WithCancel(context.Background())
	var taken atomic.Int64
	var published [publishers]int
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for ; ctx.Err() == nil; published[p]++ {
				id := fmt.Sprint(p, "-", published[p])
				if err := publish(current, spread(id)); err != nil {
					h.Errorf("Handle(%s) = %v, want nil in the end", id, err)
				}
				taken.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	defer wg.Wait()
	defer stop()
	for round := range rounds {
		enough := taken.Load() + events
		h.eventually("events are taken", func() bool { return taken.Load() >= enough })
		next := h.f.Other
		if round%2 == 1 {
			next = h.f.New
		}
		last := b
		b = h.owned(next(h.T))
		in[len(in)-1].stop()
		in = append(in, h.subscribe(b, s, nil))
		publishOn(b)
		if err := last.Close(); err != nil {
			h.Errorf("Close() = %v, want nil", err)
		}
	}
	stop()
	wg.Wait()
	for p, n := range published {
		h.receivesAll(numbers(fmt.Sprint(p, "-"), n), in...)
	}
}
