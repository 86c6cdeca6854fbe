// Package bustest is the conformance suite that every kind of bus passes.
package bustest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/bus"
)

// Fixture is one broker, shared by all cases, and how to use it.
type Fixture struct {
	// New returns a new connection to the broker, whether or not the broker runs. The suite closes it.
	New func(t testing.TB) bus.Bus
	// AckWait is after how long the broker of New's connections sends a message again without a sign of life; keep it near 2s.
	AckWait time.Duration
	// PublishRaw stores bytes that are not a CloudEvent under a topic. Nil if the broker only takes events.
	PublishRaw func(t testing.TB, topic string, data []byte)
	// Dedup says that the broker drops duplicates, see bus.Topic.
	Dedup bool
	// Alone says that processes do not share a subscription: those that New returns in one case are one process that starts again and again.
	Alone bool
	// Refusals are connections that the broker refuses, or that do not trust it. None if it lets in everybody.
	Refusals []Refusal
	// Other is New with credentials that the broker takes as well, another user's: a password is changed so. Nil if it knows only one.
	Other func(t testing.TB) bus.Bus
	// Stop ends the broker as hard as it can, kill -9 for a process; Start brings it back with the data it had.
	// Both are nil when there is no broker that could go away.
	Stop, Start func(t testing.TB)
	// Outage is how long the broker is away in a case of its own; zero leaves that out.
	Outage time.Duration
}

// patience bounds how long the suite waits for what must happen, beside others that keep the machine busy.
const patience = 90 * time.Second

// Run runs the suite. Cases run one after the other, since some stop the broker, but for those that watch for a while that nothing
// happens.
func Run(t *testing.T, f Fixture) {
	f.together(t, slices.Concat(watching, f.refusals()))
	for _, c := range cases(f) {
		t.Run(c.name, func(t *testing.T) { f.run(t, c) })
	}
}

func (f Fixture) together(t *testing.T, list []testCase) {
	var all sync.WaitGroup // in place of t.Parallel, which allows no more than there are processors
	for _, c := range list {
		all.Go(func() { t.Run(c.name, func(t *testing.T) { f.run(t, c) }) })
	}
	all.Wait()
}

// RunOutage runs only the case for which f.Outage is: a cluster takes too long to come back for all those that stop the broker.
func RunOutage(t *testing.T, f Fixture) { f.run(t, testCase{run: longOutage}) }

func (f Fixture) run(t *testing.T, c testCase) { c.run(&harness{T: t, f: f, id: runs.Add(1)}) }

type testCase struct {
	name string
	run  func(*harness)
}

var watching = []testCase{
	{"an error brings a message again and nil does not", redelivery},
	{"nothing is acknowledged before Done", nothingBeforeDone},
	{"messages in flight are bounded", maxInFlight},
	{"a message that is held is not delivered again", held},
	{"only the first call of Done counts", doneTwice},
	{"the end of a subscription waits for what is in flight", drains},
}

func cases(f Fixture) []testCase {
	list := []testCase{
		{"events survive byte for byte", eventsSurvive},
		{"one publisher's order is kept", orderIsKept},
		{"what was not done comes first and in order", orderAcrossProcesses},
		{"two subscriptions each get all", twoSubscriptions},
		{"members of a subscription share without loss", membersShare},
		{"a subscription receives several topics", severalTopics},
		{"many publishers lose and repeat nothing", manyPublishers},
		{"a subscription begins when it is created", beginsAtCreation},
		{"a subscription remembers what was acknowledged", remembers},
		{"a changed list of topics keeps what is there", changedTopics},
		{"the end of a subscription waits no longer than its grace", graceExpires},
		{"closing ends subscriptions", closeEnds},
		{"unsubscribing forgets", unsubscribe},
		{"a subscription that cannot work is an error", invalid},
		{"handling ends with its context", handleCancelled},
		{"nothing is left running after Close", noLeak},
	}
	if f.PublishRaw != nil {
		list = append(list, testCase{"bytes that are no event come wrapped", malformed})
	}
	if f.Dedup {
		list = append(list, testCase{"duplicates of one origin are dropped", duplicates})
	}
	if f.Other != nil {
		list = append(list, rotates)
	}
	if f.Stop != nil {
		list = append(list,
			testCase{"a broker that goes away and comes back loses nothing", outage},
			testCase{"a bus that starts before its broker connects by itself", startsFirst},
			testCase{"a message held over a restart is not delivered again", heldOverRestart},
			testCase{"publishing through a restart loses nothing", outageUnderLoad},
		)
	}
	if f.Outage > 0 {
		list = append(list, testCase{"a broker that is away for long under load loses nothing", longOutage})
	}
	return list
}

// runs tells apart the topics and subscriptions of cases that share a broker.
var runs atomic.Int64

var process = time.Now().UnixNano()

// harness is one case's view of the broker.
type harness struct {
	*testing.T
	f  Fixture
	id int64
}

// topic returns a topic of this case, in the form that the events of sources have.
func (h *harness) topic(name string) string {
	return fmt.Sprintf("openfunction.bustest.es-%d-%d.%s", process, h.id, name)
}

// name returns a subscription's name of this case.
func (h *harness) name(name string) string {
	return fmt.Sprintf("bustest-%d-%d_%s", process, h.id, name)
}

// bus returns a new connection.
func (h *harness) bus() bus.Bus {
	h.Helper()
	return h.owned(h.f.New(h.T))
}

// owned returns b, which is closed at the end of the case.
func (h *harness) owned(b bus.Bus) bus.Bus {
	h.Helper()
	h.Cleanup(func() {
		if err := b.Close(); err != nil {
			h.Errorf("Close() = %v, want nil", err)
		}
	})
	return b
}

// several is for cases with several processes at once.
func (h *harness) several() {
	h.Helper()
	if h.f.Alone {
		h.Skip("processes do not share a subscription")
	}
}

// eventually polls until ok returns true and fails the case if that does not happen.
func (h *harness) eventually(what string, ok func() bool) {
	h.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			h.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// never watches for d and fails the case if bad returns true meanwhile.
func (h *harness) never(what string, d time.Duration, bad func() bool) {
	h.Helper()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if bad() {
			h.Fatalf("%s, within %s", what, d)
		}
	}
}
