package v1alpha1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/kmeta"
)

// ready returns the status and reason of Ready.
func ready(o duckv1.KRShaped) [2]string {
	c := o.GetStatus().GetCondition(apis.ConditionReady)
	return [2]string{string(c.Status), c.Reason}
}

func TestReady(t *testing.T) {
	es, tg, eb, ceb := &EventSource{}, &Trigger{}, &EventBus{}, &ClusterEventBus{}
	for _, tt := range []struct {
		name string
		o    duckv1.KRShaped
		mark func()
		want corev1.ConditionStatus
		why  string
	}{
		{"a new EventSource is not known to be ready", es, func() {}, corev1.ConditionUnknown, ""},
		{"a missing bus is the reason", es, func() {
			es.Status.Mark(Bad("BusNotFound", "no bus"), NotUsed("no sink"), Pending("BusNotFound", "waits for the bus"))
		}, corev1.ConditionFalse, "BusNotFound"},
		{"what failed is the reason, not what is still to come before it", es, func() {
			es.Status.Mark(Pending("Unreachable", "dial n:4222"), Good(), Bad("Refused", "the brokers refuse the password"))
		}, corev1.ConditionFalse, "Refused"},
		{"the first of two that failed is the reason", es, func() {
			es.Status.Mark(Good(), Bad("SinkNotResolved", "no Service"), Bad("Refused", "the brokers refuse the password"))
		}, corev1.ConditionFalse, "SinkNotResolved"},
		{"sources are pending", es, func() {
			es.Status.Mark(Good(), Good(), Pending("Starting", "0 of 1 events are being received"))
		}, corev1.ConditionUnknown, "Starting"},
		{"an EventSource is ready when all its parts are", es, func() { es.Status.Mark(Good(), Good(), Good()) }, corev1.ConditionTrue, ""},
		{"a part that is not used is as good as one that works", es, func() {
			es.Status.Mark(NotUsed("no bus"), NotUsed("no sink"), Good())
		}, corev1.ConditionTrue, ""},

		{"a Trigger without its bus", tg, func() {
			tg.Status.Mark(Bad("BusNotFound", "no bus"), Good(), Pending("BusNotFound", "waits for the bus"))
		}, corev1.ConditionFalse, "BusNotFound"},
		{"a Trigger without its input", tg, func() {
			tg.Status.Mark(Good(), Bad("EventNotFound", "no event"), Pending("EventNotFound", "waits for the inputs"))
		}, corev1.ConditionFalse, "EventNotFound"},
		{"a Trigger whose subscriptions are being made", tg, func() {
			tg.Status.Mark(Good(), Good(), Pending("Subscribing", "0 of 1"))
		}, corev1.ConditionUnknown, "Subscribing"},
		{"a Trigger is ready when all its parts are", tg, func() { tg.Status.Mark(Good(), Good(), Good()) }, corev1.ConditionTrue, ""},

		{"a bus that does not answer", eb, func() { eb.Status.MarkUnreachable("Refused", "dial n:4222") }, corev1.ConditionFalse, "Refused"},
		{"a bus that answers", eb, func() { eb.Status.MarkReachable() }, corev1.ConditionTrue, ""},
		{"a bus that answers and loses events", eb, func() { eb.Status.MarkLosing("stream s loses events") }, corev1.ConditionTrue, ""},
		{"a cluster bus that answers", ceb, func() { ceb.Status.MarkReachable() }, corev1.ConditionTrue, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.GetConditionSet().Manage(tt.o.GetStatus()).InitializeConditions()
			tt.mark()
			if diff := cmp.Diff(ready(tt.o), [2]string{string(tt.want), tt.why}); diff != "" {
				t.Errorf("Ready (-got +want):\n%s", diff)
			}
		})
	}
}

func TestState(t *testing.T) {
	for _, tt := range []struct {
		name          string
		verdict       Verdict
		want, message string
	}{
		{"what works is running", Good(), StateRunning, ""},
		{"what runs and is not delivered is worth a message", NotDelivered("post http://x: status 500"), StateRunning, "post http://x: status 500"},
		{"what runs and loses events is worth a message", LosesEvents("stream s loses events"), StateRunning, "stream s loses events"},
		{"so is what runs and is full", Full("bus is full"), StateRunning, "bus is full"},
		{"what is not used is not worth a message", NotUsed("spec.sink is not set"), StateRunning, ""},
		{"what is still to come is pending", Pending("Starting", "0 of 1"), StatePending, "0 of 1"},
		{"what does not work is an error", Bad("Refused", "no"), StateError, "no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &TriggerStatus{}
			s.Mark(Good(), tt.verdict, Good())
			if got, want := [2]string{s.State, s.Message}, [2]string{tt.want, tt.message}; got != want {
				t.Errorf("state and message = %q, want %q", got, want)
			}
		})
	}
}

func TestGroupVersionKindIsTheSchemes(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, o := range []runtime.Object{&EventSource{}, &EventBus{}, &ClusterEventBus{}, &Trigger{}} {
		kinds, _, err := scheme.ObjectKinds(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.(kmeta.OwnerRefable).GetGroupVersionKind(); got != kinds[0] {
			t.Errorf("GetGroupVersionKind() = %v, want %v", got, kinds[0])
		}
	}
}
