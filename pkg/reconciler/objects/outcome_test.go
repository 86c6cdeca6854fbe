package objects_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// outcome is that of an EventSource on a bus, with these states of its workloads.
func outcome(t *testing.T, bus runtime.Object, states map[string]workload.State) *objects.Outcome {
	t.Helper()
	es := EventSource("shop", "es", WithBus("b"), WithCron("tick"))
	ctx := NewWorld(t, es, bus).Ctx
	c, err := objects.NewReader(ctx, noTracker()).EventSource(ctx, es)
	if err != nil {
		t.Fatal(err)
	}
	o := objects.NewOutcome(c)
	o.States = states
	return o
}

func TestWhatIsAFault(t *testing.T) {
	const message = "look at it"
	for reason, fault := range map[string]bool{
		workload.ReasonNotOwned: true, workload.ReasonRefused: true, workload.ReasonTooLarge: true, workload.ReasonNotApplied: true, workload.ReasonUnreachable: true,
		workload.ReasonStarting: false, workload.ReasonGatewayNotReady: false, workload.ReasonNoReport: false, workload.ReasonApplying: false,
		workload.ReasonPredecessorLeaves: false,
	} {
		o := objects.Outcome{Compiled: &objects.Compiled{}, States: map[string]workload.State{"a": {Ready: true}, "b": {Reason: reason, Message: message}}}
		want := v1alpha1.Pending(reason, "b: "+message)
		if fault {
			want = v1alpha1.Bad(reason, "b: "+message)
		}
		if diff := cmp.Diff(want, o.Running()); diff != "" {
			t.Errorf("%s (-want, +got):\n%s", reason, diff)
		}
	}
}

func TestBusOfAnOutcome(t *testing.T) {
	reached, away := workload.BusState{Seen: true}, workload.BusState{Seen: true, Problem: "EventBus shop/b: dial nats.nats:4222: refused"}
	losing, full := workload.BusState{Seen: true, Losing: "stream s loses events"}, workload.BusState{Seen: true, Full: "EventBus shop/b is full"}
	for _, tt := range []struct {
		name   string
		bus    runtime.Object
		states map[string]workload.State
		want   v1alpha1.Verdict
	}{
		{"without a workload the status of the bus counts", EventBus("shop", "b"), nil, v1alpha1.Good()},
		{"whatever it is", EventBus("shop", "b", Waiting), map[string]workload.State{"a": {}},
			v1alpha1.Pending("Waiting", "EventBus shop/b: the shared gateway has no pod")},
		{"while nobody looks at the bus, a workload that uses it knows", EventBus("shop", "b", Waiting), map[string]workload.State{"a": {Bus: reached}}, v1alpha1.Good()},
		{"what the shared gateway does not reach may be reached", EventBus("shop", "b", Unreachable), map[string]workload.State{"": {}, "a": {Bus: reached}}, v1alpha1.Good()},
		{"and the other way round", EventBus("shop", "b"), map[string]workload.State{"a": {Bus: reached}, "b": {Bus: away}},
			v1alpha1.Bad("Unreachable", "b: EventBus shop/b: dial nats.nats:4222: refused")},
		{"a bus that loses events works", EventBus("shop", "b"), map[string]workload.State{"a": {Bus: reached}, "b": {Bus: losing}, "c": {Bus: losing}},
			v1alpha1.LosesEvents("stream s loses events")},
		{"a bus that is full works, and says so by itself", EventBus("shop", "b"), map[string]workload.State{"a": {Bus: reached}, "b": {Bus: full}},
			v1alpha1.Full("EventBus shop/b is full")},
		{"one that loses events is worse", EventBus("shop", "b"), map[string]workload.State{"a": {Bus: full}, "b": {Bus: losing}}, v1alpha1.LosesEvents("stream s loses events")},
		{"one that is away is worse", EventBus("shop", "b"), map[string]workload.State{"a": {Bus: losing}, "b": {Bus: away}},
			v1alpha1.Bad("Unreachable", "b: EventBus shop/b: dial nats.nats:4222: refused")},
		{"a bus that cannot be used is none", EventBus("shop", "b", WithToken("missing")), map[string]workload.State{"a": {Bus: reached}}, v1alpha1.Bad("BusNotReady",
			`spec.eventBus: EventBus shop/b cannot be used: spec.jetStream.tokenFrom: key "token" of Secret shop/missing: there is no such Secret: create it, or correct the name`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, outcome(t, tt.bus, tt.states).Bus()); diff != "" {
				t.Errorf("bus (-want, +got):\n%s", diff)
			}
		})
	}
}
