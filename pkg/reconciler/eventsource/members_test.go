package eventsource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"

	"github.com/openfunction/events/pkg/client/injection/client"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

// TestMembers raises and lowers the number of members of a group: what one that goes leaves to the broker the first one takes, once nobody
// else can have it.
func TestMembers(t *testing.T) {
	w := NewWorld(t, EventBus("shop", "b"), EventSource("shop", "es", WithBus("b"), WithMQTT("m", 1)))
	names := []string{"eventsource-es-mqtt-m", "eventsource-es-mqtt1-m", "eventsource-es-mqtt2-m"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	replicas := func(n int32) func() {
		return func() {
			es := get(t, w)
			es.Spec.MQTT["m"].Replicas = &n
			es.Generation++
			_, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Update(w.Ctx, es, metav1.UpdateOptions{})
			must(err)
		}
	}
	gone := func(name string) func() {
		return func() { must(kubeclient.Get(w.Ctx).CoreV1().Pods("shop").Delete(w.Ctx, name, metav1.DeleteOptions{})) }
	}
	bus := func() {
		must(client.Get(w.Ctx).EventsV1alpha1().EventBuses("shop").Delete(w.Ctx, "b", metav1.DeleteOptions{}))
	}
	var first *appsv1.Deployment
	for _, step := range []struct {
		name      string
		do        func()
		runs      int // Deployments
		members   int // that the first one counts
		workloads string
		state     string
	}{
		{"one", func() {}, 1, 1, "0/1", "Pending"},
		{"it starts", w.Start, 1, 1, "1/1", "Running"},
		{"three", replicas(3), 3, 3, "1/3", "Pending"},
		{"they start", w.Start, 3, 3, "3/3", "Running"},
		{"two, and the third has not ended", replicas(2), 2, 3, "2/2", "Running"},
		{"nothing happens", func() {}, 2, 3, "2/2", "Running"},
		{"it has", gone(names[2]), 2, 2, "2/2", "Running"},
		{"one while there is no bus", func() { bus(); replicas(1)() }, 1, 2, "1/1", "Error"},
		{"the bus is back", func() { w.Create(EventBus("shop", "b")) }, 1, 2, "1/1", "Running"},
		{"the second has ended", gone(names[1]), 1, 1, "1/1", "Running"},
	} {
		step.do()
		w.Sync()
		for range 2 { // the pods of the world run the plan at once, and are asked before it is written
			if p := reconcile(w, key); p.Err != nil {
				t.Fatalf("%s: %v", step.name, p.Err)
			}
		}
		s := get(t, w).Status
		if s.WorkloadStatistics != step.workloads || s.State != step.state {
			t.Errorf("%s: workloads %s, %s (%s), want %s, %s", step.name, s.WorkloadStatistics, s.State, s.Message, step.workloads, step.state)
		}
		for n, name := range names {
			d, err := kubeclient.Get(w.Ctx).AppsV1().Deployments("shop").Get(w.Ctx, name, metav1.GetOptions{})
			if n >= step.runs {
				if !apierrors.IsNotFound(err) {
					t.Errorf("%s: %s runs (%v)", step.name, name, err)
				}
				continue
			}
			must(err)
			if got := w.Plan("shop", name).Sources[0].MQTT.Member; got != n || *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
				t.Errorf("%s: %s runs member %d, %d times, %s; want member %d once", step.name, name, got, *d.Spec.Replicas, d.Spec.Strategy.Type, n)
			}
			if n > 0 {
				continue
			}
			if first == nil {
				first = d
			}
			if !cmp.Equal(d.Spec, first.Spec) {
				t.Errorf("%s: the pod of the first is replaced", step.name)
			}
		}
		if got := w.Plan("shop", names[0]).Sources[0].MQTT.Members; got != step.members {
			t.Errorf("%s: the first counts %d members, want %d", step.name, got, step.members)
		}
	}
}
