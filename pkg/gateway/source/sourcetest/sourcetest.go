// Package sourcetest is the conformance suite that every kind of source passes, as far as it promises what a case is about.
package sourcetest

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// Fixture is one server, shared by all cases, and what a kind of source promises of it. It is stable: fields may be added, but the
// zero values of new ones change nothing. What posts to us, and a clock, are servers too: their origins are what they post to, and what ticks.
type Fixture struct {
	// Kind is the kind of source, as plan.Source has it.
	Kind string
	// Origin makes a topic, stream, channel or list that is new and empty, and returns its name.
	Origin func(t testing.TB) string
	// New returns a Source that reads an origin, whether or not the server runs.
	New func(t testing.TB, p Process) source.Source
	// Produce writes messages with these bytes, in this order, and returns once the server has them, or, where the source is the server,
	// will not give them up. The promise of order is for the messages of one call.
	Produce func(t testing.TB, origin string, data ...[]byte)
	// ProduceEvent writes a CloudEvent in the way that is native to the kind. Nil if there is none.
	ProduceEvent func(t testing.TB, origin string, e *event.Event)

	// OwnData says that the kind makes the data of its events itself: Produce's is only how the suite tells them apart.
	OwnData bool
	// AtLeastOnce promises that nothing is lost: what was not acknowledged comes again, also to another process, and what is written
	// while no Source runs, once one was ready, comes later.
	AtLeastOnce bool
	// Ordered promises that the messages of an origin are handed on one after the other, in their order.
	Ordered bool
	// Positions promises that an event that comes again has the id that it had.
	Positions bool

	// Stop ends the server as hard as it can, kill -9 for a process; Start brings it back. Both are nil when there is none to stop.
	Stop, Start func(t testing.TB)
	// Persistent promises that what the server had it has after Stop and Start.
	Persistent bool
	// Outage is how long the server is away in one of the cases; zero means until the Source has noticed.
	Outage time.Duration

	// Refusal is what ready's error contains when a process has wrong credentials: what to correct. Empty if Process.Wrong means nothing.
	Refusal []string
	// Company says that other tests run in this process meanwhile: its goroutines are not counted.
	Company bool
	// MaxData is the size of the largest message that is tried. Zero means 1 MiB.
	MaxData int
}

// Process is one process that reads an origin.
type Process struct {
	// Source is what the plan says, but for the kind's own spec, which New adds.
	Source plan.Source
	// Origin is a name that Fixture.Origin returned. All processes with one origin are replicas of one event, or come one after the other.
	Origin string
	// Instance and Dial are those of the kind's Options.
	Instance string
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	// Wrong wants credentials that the server refuses. A password or token in them is WrongSecret.
	Wrong bool
}

// WrongSecret is no server's password. It appears in no error.
const WrongSecret = "wr0ng-s3cret"

// patience bounds how long the suite waits for what must happen. A server takes some time to give up a process that was killed.
const patience = 60 * time.Second

// Run runs the suite. Cases that stop the server or count goroutines run one after the other, the rest at once.
func Run(t *testing.T, f Fixture) {
	t.Run("together", func(t *testing.T) {
		for _, c := range together(f) {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(newHarness(t, f))
			})
		}
	})
	for _, c := range alone(f) {
		t.Run(c.name, func(t *testing.T) { c.run(newHarness(t, f)) })
	}
}

type testCase struct {
	name string
	run  func(*harness)
}

func together(f Fixture) []testCase {
	list := []testCase{
		{"the kind is marked", kindIsMarked},
		{"the end waits for what is in flight", drains},
		{"an event that fails for good does not hold up others", permanent},
		{"an event that is not taken is tried again", triedAgain},
		{"a dead letter that is away is tried again", deadLetterAway},
		{"a stage that refuses and takes by turns is not said each time", byTurns},
	}
	if !f.OwnData {
		list = append(list, testCase{"messages become events byte for byte", bytesSurvive})
	}
	if f.ProduceEvent != nil {
		list = append(list, testCase{"CloudEvents stay as they are", eventsSurvive})
	}
	if f.Ordered {
		list = append(list, testCase{"order is kept", orderIsKept})
	}
	if f.AtLeastOnce {
		list = append(list,
			testCase{"what was not taken comes to the next process", comesToNext},
			testCase{"what a process held that was killed comes to another", killed},
			testCase{"what is written while nobody reads comes later", writtenMeanwhile},
			testCase{"processes share without loss", share},
		)
	}
	if len(f.Refusal) > 0 {
		list = append(list, testCase{"wrong credentials are said, and corrected ones lose nothing", credentials})
	}
	return list
}

func alone(f Fixture) []testCase {
	var list []testCase
	if !f.Company {
		list = append(list, testCase{"nothing is left running", noLeak})
	}
	if f.Stop != nil {
		list = append(list,
			testCase{"a server that goes away and comes back loses nothing", outage},
			testCase{"a source that starts before its server connects by itself", startsFirst},
			testCase{"a source ends while its server is away", endsWhileAway},
		)
	}
	return list
}

// runs tells apart the cases of a process.
var runs atomic.Int64

// harness is one case's view of the server.
type harness struct {
	*testing.T
	f      Fixture
	id     int64
	origin string
}

func newHarness(t *testing.T, f Fixture) *harness {
	t.Helper()
	return &harness{T: t, f: f, id: runs.Add(1), origin: f.Origin(t)}
}

// process returns a process with this name that reads the case's origin.
func (h *harness) process(name string) Process {
	return Process{
		Source:   plan.Source{Namespace: "ns", EventSource: "es", Event: "ev", Kind: h.f.Kind},
		Origin:   h.origin,
		Instance: fmt.Sprintf("%s-%d", name, h.id),
		Dial:     new(net.Dialer).DialContext,
	}
}

func (h *harness) produce(data ...string) {
	h.Helper()
	all := make([][]byte, len(data))
	for i, d := range data {
		all[i] = []byte(d)
	}
	h.f.Produce(h.T, h.origin, all...)
}

// eventually polls until ok returns true and fails the case if that does not happen.
func (h *harness) eventually(what string, ok func() bool) {
	h.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// numbers returns prefix0, prefix1 and so on.
func numbers(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(prefix, i)
	}
	return all
}
