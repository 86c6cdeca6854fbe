package clustereventbus

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	pkgreconciler "knative.dev/pkg/reconciler"
	rt "knative.dev/pkg/reconciler/testing"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	eventsclient "github.com/openfunction/events/pkg/client/injection/client/fake"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	buses "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	reconciler "github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/reconciler/eventbus"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

func TestClusterEventBus(t *testing.T) {
	fresh := func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { *s = v1alpha1.EventBusStatus{} }
	running := func(eventSources, triggers []string) func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus) {
		return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) {
			s.MarkUsers(eventSources, triggers)
			s.ObservedGeneration = 1
		}
	}
	rt.TableTest{{
		Name: "a key that is none is forgotten",
		Key:  "a/b/c",
	}, {
		Name: "a bus that is gone is forgotten",
		Key:  "default",
	}, {
		Name: "a namespace with an EventBus of the name does not use it",
		Key:  "default",
		Objects: []runtime.Object{
			ClusterEventBus("default", fresh), EventBus("b", "default"),
			EventSource("a", "es", WithHTTP("e")), EventSource("b", "es", WithHTTP("e")),
			Trigger("a", "t"), Trigger("b", "t"), Trigger("c", "t"),
		},
		WantErr: true, // only to be reconciled again
		WantStatusUpdates: []clientgotesting.UpdateActionImpl{{
			Object: ClusterEventBus("default", running([]string{"EventSource a/es"}, []string{"Trigger a/t", "Trigger c/t"})),
		}},
		WantEvents: []string{"Normal Reachable the broker answers"},
	}}.Test(t, newReconciler)
}

// newReconciler returns one whose gateway reaches the bus of the cluster.
func newReconciler(t *testing.T, row *rt.TableRow) (controller.Reconciler, rt.ActionRecorderList, rt.EventList) {
	ctx := NewWorld(t, row.Objects...).Ctx
	shared := func(_ context.Context, object, _ string) workload.State {
		return workload.State{Ready: object == "ClusterEventBus default"}
	}
	recorder := record.NewFakeRecorder(10)
	client := eventsclient.Get(ctx)
	r := reconciler.NewReconciler(ctx, logging.FromContext(ctx), client, clustereventbus.Get(ctx).Lister(), recorder,
		&Reconciler{observer: &eventbus.Observer{Objects: objects.NewReader(ctx, &rt.FakeTracker{}), Shared: shared}})
	if err := r.(pkgreconciler.LeaderAware).Promote(pkgreconciler.UniversalBucket(), func(pkgreconciler.Bucket, types.NamespacedName) {}); err != nil {
		t.Fatal(err)
	}
	return r, rt.ActionRecorderList{client}, rt.EventList{Recorder: recorder}
}

func TestAnEventBusChangesWhoUsesTheClusters(t *testing.T) {
	ctx := NewWorld(t).Ctx
	impl := NewController(ctx, configmap.NewStaticWatcher())
	stop := make(chan struct{})
	wait, err := controller.RunInformers(stop, buses.Get(ctx).Informer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(stop); wait() })
	client := eventsclient.Get(ctx).EventsV1alpha1().EventBuses("a")
	wantReconciled := func(when string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := impl.WorkQueue().Get()
		if want := (types.NamespacedName{Name: "default"}); got != want {
			t.Errorf("when an EventBus %s, %v is reconciled, want %v", when, got, want)
		}
		impl.WorkQueue().Done(got)
	}
	_, err = client.Create(ctx, EventBus("a", "default"), metav1.CreateOptions{})
	wantReconciled("comes", err)
	wantReconciled("goes", client.Delete(ctx, "default", metav1.DeleteOptions{}))
}
