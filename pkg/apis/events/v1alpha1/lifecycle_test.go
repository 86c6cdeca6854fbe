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
		{"a missing bus is the reason", es, func() { es.Status.MarkBusNotFound("default") }, corev1.ConditionFalse, "BusNotFound"},
		{"a bus that is not reached yet is unknown", es, func() { es.Status.MarkBusNotReady("BusUnreachable", "dial %s", "n:4222") }, corev1.ConditionUnknown, "BusUnreachable"},
		{"a sink is still to be resolved", es, func() { es.Status.MarkBusNotUsed() }, corev1.ConditionUnknown, ""},
		{"a sink that is missing is the reason", es, func() { es.Status.MarkSinkNotResolved("SinkNotFound", "no Service %q", "a") }, corev1.ConditionFalse, "SinkNotFound"},
		{"sources are pending", es, func() {
			es.Status.MarkSinkResolved(apis.HTTP("a.default"))
			es.Status.MarkSourcesPending("Starting", "0 of 1 events are being received")
		}, corev1.ConditionUnknown, "Starting"},
		{"sources failed", es, func() { es.Status.MarkSourcesFailed("Refused", "the brokers refuse the password") }, corev1.ConditionFalse, "Refused"},
		{"an EventSource is ready when all its parts are", es, func() { es.Status.MarkSourcesReady() }, corev1.ConditionTrue, ""},
		{"no sink is as good as one", es, func() { es.Status.MarkSinkNotUsed(); es.Status.MarkBusReady() }, corev1.ConditionTrue, ""},

		{"a Trigger without its bus", tg, func() { tg.Status.MarkBusNotFound("default") }, corev1.ConditionFalse, "BusNotFound"},
		{"a Trigger whose bus is not reached yet", tg, func() { tg.Status.MarkBusNotReady("BusUnreachable", "dial") }, corev1.ConditionUnknown, "BusUnreachable"},
		{"a Trigger without its input", tg, func() {
			tg.Status.MarkBusReady()
			tg.Status.MarkInputsNotResolved("EventNotFound", "input %s", "a")
		}, corev1.ConditionFalse, "EventNotFound"},
		{"a Trigger whose subscriptions are being made", tg, func() {
			tg.Status.MarkInputsResolved()
			tg.Status.MarkSubscribersPending("Subscribing", "0 of 1")
		}, corev1.ConditionUnknown, "Subscribing"},
		{"a Trigger whose sink is missing", tg, func() { tg.Status.MarkSubscribersFailed("SinkNotFound", "subscriber %d", 0) }, corev1.ConditionFalse, "SinkNotFound"},
		{"a Trigger is ready when all its parts are", tg, func() { tg.Status.MarkSubscribersReady() }, corev1.ConditionTrue, ""},

		{"a bus that does not answer", eb, func() { eb.Status.MarkUnreachable("Refused", "dial n:4222") }, corev1.ConditionFalse, "Refused"},
		{"a bus that answers", eb, func() { eb.Status.MarkReachable() }, corev1.ConditionTrue, ""},
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
	if got := es.Status.SinkURI; got != nil {
		t.Errorf("SinkURI without a sink = %v, want nil", got)
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
