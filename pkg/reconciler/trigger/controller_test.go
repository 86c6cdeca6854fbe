package trigger

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/configmap"
	dynamicclient "knative.dev/pkg/injection/clients/dynamicclient/fake"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/test/servers"
)

func TestNewController(t *testing.T) {
	tr := Trigger("shop", "t", OnBus("b"), WithInput("x", "crm", "people", "new"), onOrders, WithSubscriber("a", sink))
	tr.Spec.Inputs["a"].Namespace = "" // as it is before it is defaulted
	for _, tt := range []struct {
		name    string
		created runtime.Object
		want    string
	}{
		{"another Trigger", Trigger("crm", "new", OnBus("b"), onOrders, WithSubscriber("a", sink)), "crm/new"},
		{"its bus", EventBus("shop", "b"), "shop/t"},
		{"its ClusterEventBus", ClusterEventBus("b"), "shop/t"},
		{"its EventSource", orders, "shop/t"},
		{"its EventSource of another namespace", EventSource("crm", "people", WithBus("b"), WithHTTP("new")), "shop/t"},
		{"a child", Child(tr, component), "shop/t"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t, tr)
			impl := NewController(w.Ctx, &configmap.ManualWatcher{})
			w.Run()
			got := []string{w.Next(impl)}
			w.Create(tt.created)
			got = append(got, w.Next(impl))
			if diff := cmp.Diff([]string{"shop/t", tt.want}, got); diff != "" {
				t.Errorf("keys (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestABusThatTakesAnEventSourceAway(t *testing.T) {
	people := EventSource("crm", "people", WithBus("b"), WithHTTP("new"), WithAllowed("shop"))
	w := NewWorld(t, people, ClusterEventBus("b"), Trigger("shop", "t", OnBus("b"), WithInput("a", "crm", "people", "new"), WithSubscriber("a", sink)))
	impl := NewController(w.Ctx, &configmap.ManualWatcher{})
	w.Run()
	got := []string{w.Next(impl)}
	w.Create(EventBus("crm", "b"))
	got = append(got, w.Next(impl))
	if diff := cmp.Diff([]string{"shop/t", "shop/t"}, got); diff != "" {
		t.Errorf("keys (-want, +got):\n%s", diff)
	}
}

// TestTheAuthorityOfASinkIsFollowed has an Addressable change the certificates that it is trusted by.
func TestTheAuthorityOfASinkIsFollowed(t *testing.T) {
	first, second := servers.NewAuthority(t).Cert, servers.NewAuthority(t).Cert
	display := func(certs string) *unstructured.Unstructured {
		u := Addressable("shop", "display", "https://display.shop.example.com")
		if err := unstructured.SetNestedField(u.Object, certs, "status", "address", "CACerts"); err != nil {
			t.Fatal(err)
		}
		return u
	}
	w := NewWorld(t, bus, orders, display(""), Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", Service("shop", "display"))))
	impl := NewController(w.Ctx, &configmap.ManualWatcher{})
	w.Run()
	services := dynamicclient.Get(w.Ctx).Resource(schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"})
	const junk = "SinkNotResolved: spec.subscribers[0].sink: sink shop/display has an address with CACerts that cannot be used: the CA certificates hold no PEM certificate"
	for _, step := range []struct {
		name, certs, want, problem string
	}{
		{"the first", first, first, ""},
		{"replaced", second, second, ""},
		{"no certificate: what ran goes on", "junk", second, junk},
		{"both", first + second, first + second, ""},
		{"none", "", "", ""},
	} {
		if _, err := services.Namespace("shop").Update(w.Ctx, display(step.certs), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		follows := func() bool {
			c := get(t, w).Status.GetCondition(v1alpha1.TriggerSubscribersReady)
			return c != nil && (c.Reason+": "+c.Message == step.problem || c.Reason != "SinkNotResolved" && step.problem == "") &&
				w.Plan("shop", "trigger-t").Subscribers[0].Sink.CACerts == step.want
		}
		for again := true; again; again = !follows() {
			if got := w.Next(impl); got != key {
				t.Fatalf("%s: key %s, want %s", step.name, got, key)
			}
			if p := w.Reconcile(impl.Reconciler, key); p.Err != nil {
				t.Fatalf("%s: %v", step.name, p.Err)
			}
		}
	}
}

func TestDefaultsAreFollowed(t *testing.T) {
	w, settings := NewWorld(t, Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink))), &configmap.ManualWatcher{}
	impl := NewController(w.Ctx, settings)
	w.Run()
	got := []string{w.Next(impl)}
	settings.OnChange(Settings("delivery.retry", "3"))
	got = append(got, w.Next(impl))
	if diff := cmp.Diff([]string{"shop/t", "shop/t"}, got); diff != "" {
		t.Errorf("keys (-want, +got):\n%s", diff)
	}
}
