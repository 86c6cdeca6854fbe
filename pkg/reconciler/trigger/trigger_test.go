package trigger

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgotesting "k8s.io/client-go/testing"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	"knative.dev/pkg/controller"
	dynamicclient "knative.dev/pkg/injection/clients/dynamicclient/fake"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/client"
	informer "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
	"github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/trigger"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/dapr"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/optional"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

const key = "shop/t"

// reconcile passes over the key, with what the gateways say now.
func reconcile(w *World, key string) Pass {
	return reconcileWith(w, key, Optional(w, component, 0))
}

func reconcileWith(w *World, key string, children *optional.Children) Pass {
	r := &Reconciler{
		objects:   objects.NewReader(w.Ctx, tracker.New(func(types.NamespacedName) {}, 0)),
		workloads: workload.NewClients(w.Ctx),
		optional:  children,
	}
	r.workloads.Reports = w.Gateways.Ask()
	return w.Reconcile(trigger.NewReconciler(w.Ctx, logging.FromContext(w.Ctx), client.Get(w.Ctx), informer.Get(w.Ctx).Lister(),
		controller.GetEventRecorder(w.Ctx), r), key)
}

func get(t *testing.T, w *World) *v1alpha1.Trigger {
	t.Helper()
	tr, err := client.Get(w.Ctx).EventsV1alpha1().Triggers("shop").Get(w.Ctx, "t", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var (
	sink     = URI("http://sink.example.com")
	bus      = EventBus("shop", "b")
	orders   = EventSource("shop", "orders", WithBus("b"), WithHTTP("order"))
	onOrders = WithInput("a", "", "orders", "order")
	long     = strings.Repeat("a-long-name-", 5)
)

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trigger *v1alpha1.Trigger
		objects []runtime.Object
		want    string
	}{
		{"everything is there", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", Service("shop", "display")), WithSubscriber("a", sink), WithSubscriber("a", sink)),
			[]runtime.Object{bus, orders, Addressable("shop", "display", "http://display.shop.example.com")}, `
Running components 3/3 workloads 1/1
BusReady True
InputsResolved True
SubscribersReady True
`},
		{"no bus", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)), []runtime.Object{orders}, `
Error components 1/2 workloads 0/1
BusReady False BusNotFound: spec.eventBus: no EventBus "b" in namespace shop and no ClusterEventBus "b" (there are no others either); add an EventBus named b, for example with spec.embedded: {}
InputsResolved True
SubscribersReady Unknown BusNotFound: no subscriber runs until the bus can be used
`},
		{"the shared gateway does not reach the bus, but its own does", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)),
			[]runtime.Object{orders, EventBus("shop", "b", Unreachable)}, `
Running components 2/2 workloads 1/1
BusReady True
InputsResolved True
SubscribersReady True
`},
		{"the shared gateway is away", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)), []runtime.Object{orders, EventBus("shop", "b", Waiting)}, `
Running components 2/2 workloads 1/1
BusReady True
InputsResolved True
SubscribersReady True
`},
		{"no EventSource", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)), []runtime.Object{bus}, `
Error components 2/2 workloads 0/1
BusReady True
InputsResolved False EventSourceNotFound: spec.inputs[a].eventSource: no EventSource shop/orders
SubscribersReady Unknown EventSourceNotFound: no subscriber runs until every input is resolved
`},
		{"no sink", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", Service("shop", "display")), WithSubscriber("a", sink)), []runtime.Object{bus, orders}, `
Error components 2/3 workloads 1/1
BusReady True
InputsResolved True
SubscribersReady False SinkNotResolved: spec.subscribers[0].sink: Service shop/display (serving.knative.dev/v1) does not exist: create it, or correct the ref
`},
		{"no Secret of the bus", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)), []runtime.Object{EventBus("shop", "b", WithToken("nats")), orders}, `
Error components 1/2 workloads 0/1
BusReady False BusNotReady: spec.eventBus: EventBus shop/b cannot be used: spec.jetStream.tokenFrom: key "token" of Secret shop/nats: there is no such Secret: create it, or correct the name
InputsResolved True
SubscribersReady Unknown BusNotReady: no subscriber runs until the bus can be used
`},
		{"an EventSource of another namespace that does not allow it", Trigger("shop", "t", OnBus("b"), WithInput("a", "crm", "people", "new"), WithSubscriber("a", sink)),
			[]runtime.Object{ClusterEventBus("b"), EventSource("crm", "people", WithBus("b"), WithHTTP("new"))}, `
Error components 2/2 workloads 0/1
BusReady True
InputsResolved False NotAllowed: spec.inputs[a].namespace: EventSource crm/people does not allow Triggers of namespace shop; add it to the spec.allowedNamespaces there
SubscribersReady Unknown NotAllowed: no subscriber runs until every input is resolved
`},
		{"invalid by today's rules", Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a && b", sink)), []runtime.Object{bus, orders}, `
Error components 0/2 workloads 0/1
BusReady Unknown Invalid: not looked at until the object is valid
InputsResolved Unknown Invalid: not looked at until the object is valid
SubscribersReady False Invalid: spec.subscribers[0].condition: column 6: unknown input "b" (inputs are a)
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t, append(tt.objects, tt.trigger)...)
			reconcile(w, key)
			w.Start()
			if p := reconcile(w, key); p.Err != nil || len(p.Writes) > 1 {
				t.Errorf("second pass: error %v, writes %q, want at most the status", p.Err, p.Writes)
			}
			tr := get(t, w)
			if diff := cmp.Diff(tt.want[1:], Text(&tr.Status.WorkloadStatus, &tr.Status.Status)); diff != "" {
				t.Errorf("status (-want, +got):\n%s", diff)
			}
			if p := reconcile(w, key); p.Writes != nil || p.Events != nil {
				t.Errorf("third pass writes %q and tells %q, want nothing", p.Writes, p.Events)
			}
		})
	}
}

func TestABusThatItsOwnGatewayDoesNotReach(t *testing.T) {
	w := NewWorld(t, bus, orders, Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)))
	reconcile(w, key)
	w.Start()
	const problem = "EventBus shop/b: dial nats.nats:4222: refused"
	w.Gateways.Problem("EventBus shop/b", problem)
	w.Gateways.Problem("Trigger shop/t", problem)
	reconcile(w, key)
	tr := get(t, w)
	if diff := cmp.Diff(`Error components 1/2 workloads 0/1
BusReady False Unreachable: trigger-t: EventBus shop/b: dial nats.nats:4222: refused
InputsResolved True
SubscribersReady False Unreachable: trigger-t: EventBus shop/b: dial nats.nats:4222: refused
`, Text(&tr.Status.WorkloadStatus, &tr.Status.Status)); diff != "" {
		t.Errorf("status (-want, +got):\n%s", diff)
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"too/many/slashes", "shop/missing"} {
		if p := reconcile(NewWorld(t), key); p.Err != nil || p.Again != "never" || p.Writes != nil {
			t.Errorf("key %s: %+v, want nothing", key, p)
		}
	}
}

func TestLongName(t *testing.T) {
	name := long + "t"
	w := NewWorld(t, bus, orders, Trigger("shop", name, OnBus("b"), onOrders, WithSubscriber("a", sink)))
	reconcile(w, "shop/"+name)
	w.Start()
	reconcile(w, "shop/"+name)
	tr, err := client.Get(w.Ctx).EventsV1alpha1().Triggers("shop").Get(w.Ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tr.Status.WorkloadStatistics, "1/1"; got != want {
		t.Errorf("workloads %s, want %s", got, want)
	}
}

const (
	allChildren = "serviceaccounts roles rolebindings secrets deployments"
	// deleted are the same in the order of their going.
	deleted = "secrets deployments rolebindings roles serviceaccounts"
)

func TestStory(t *testing.T) {
	w := NewWorld(t, ClusterEventBus("b"), Trigger("shop", "t", OnBus("b"), WithInput("a", "crm", "people", "new"), WithSubscriber("a", sink)))
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	events := client.Get(w.Ctx).EventsV1alpha1()
	edit := func(change func(*v1alpha1.EventSource)) {
		es, err := events.EventSources("crm").Get(w.Ctx, "people", metav1.GetOptions{})
		must(err)
		change(es)
		_, err = events.EventSources("crm").Update(w.Ctx, es, metav1.UpdateOptions{})
		must(err)
	}
	for _, step := range []struct {
		name  string
		do    func()
		want  Pass
		state string
	}{
		{"there is no EventSource", func() {}, Pass{
			Writes: []string{"update t: triggers/status"},
			Events: []string{"Warning EventSourceNotFound spec.inputs[a].eventSource: no EventSource crm/people"},
			Again:  "later",
		}, "Error"},
		{"it comes", func() { w.Create(EventSource("crm", "people", WithBus("b"), WithHTTP("new"), WithAllowed("shop"))) }, Pass{
			Writes: []string{"create trigger-t: " + allChildren, "update t: triggers/status"},
			Events: []string{"Normal Starting trigger-t: no pod yet"},
			Again:  "soon",
		}, "Pending"},
		{"a pod starts", w.Start, Pass{
			Writes: []string{"update t: triggers/status"},
			Events: []string{"Normal Ready events flow"},
			Again:  "later",
		}, "Running"},
		{"somebody deletes a child", func() {
			must(kubeclient.Get(w.Ctx).AppsV1().Deployments("shop").Delete(w.Ctx, "trigger-t", metav1.DeleteOptions{}))
		}, Pass{
			Writes: []string{"create trigger-t: deployments"},
			Again:  "later",
		}, "Running"},
		{"the gateway reports a problem", func() { w.Gateways.Problem("Trigger shop/t", "subscription refused") }, Pass{
			Writes: []string{"update t: triggers/status"},
			Events: []string{"Warning Unreachable trigger-t: subscription refused"},
			Again:  "soon",
		}, "Error"},
		{"it is cured", func() { w.Gateways.Problem("Trigger shop/t") }, Pass{
			Writes: []string{"update t: triggers/status"},
			Events: []string{"Normal Ready events flow"},
			Again:  "later",
		}, "Running"},
		{"the event goes, and what runs stays", func() {
			edit(func(es *v1alpha1.EventSource) { es.Spec.HTTP = map[string]*v1alpha1.HTTPSpec{"other": {}} })
		}, Pass{
			Writes: []string{"update t: triggers/status"},
			Events: []string{`Warning EventNotFound spec.inputs[a].event: EventSource crm/people has no event "new"; there are: other`},
			Again:  "later",
		}, "Error"},
		{"it is no longer allowed, and stops", func() {
			edit(func(es *v1alpha1.EventSource) {
				es.Spec.HTTP["new"], es.Spec.AllowedNamespaces = &v1alpha1.HTTPSpec{}, nil
			})
		}, Pass{
			Writes: []string{"delete trigger-t: " + deleted, "update t: triggers/status"},
			Again:  "later",
		}, "Error"},
	} {
		step.do()
		w.Sync()
		got := reconcile(w, key)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want, +got):\n%s", step.name, diff)
		}
		if got := get(t, w).Status.State; got != step.state {
			t.Errorf("%s: state %s, want %s", step.name, got, step.state)
		}
	}
}

// TestASubscriptionOutlivesItsSecret edits where a subscriber leads, which keeps its subscription, and then deletes what remembers that.
func TestASubscriptionOutlivesItsSecret(t *testing.T) {
	w := NewWorld(t, bus, orders, Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)))
	id := func() string { return w.Plan("shop", "trigger-t").Subscribers[0].ID }
	again := func() {
		w.Sync()
		if p := reconcile(w, key); p.Err != nil {
			t.Fatal(p.Err)
		}
		w.Sync()
	}
	again()
	before := id()
	o := get(t, w)
	o.Spec.Subscribers[0].Sink = URI("http://other.example.com")
	if _, err := client.Get(w.Ctx).EventsV1alpha1().Triggers("shop").Update(w.Ctx, o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	again()
	if got := get(t, w).Status.Subscriptions; len(got) != 1 || got[0].Name != before || got[0].Key == "" {
		t.Errorf("subscriptions %+v, want one named %s with the key of where it leads now", got, before)
	}
	if err := kubeclient.Get(w.Ctx).CoreV1().Secrets("shop").Delete(w.Ctx, "trigger-t", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	again()
	if got := id(); got != before {
		t.Errorf("after its Secret was deleted the subscriber has subscription %s, and not %s, where its events are", got, before)
	}
}

func TestASinkThatIsNotThereYet(t *testing.T) {
	display := Addressable("shop", "display", "http://display.shop.example.com")
	tr := Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink), WithSubscriber("a", Service("shop", "display")))
	level := "debug"
	tr.Spec.LogLevel = &level
	w := NewWorld(t, bus, orders, tr, display)
	reconcile(w, key)
	o := get(t, w)
	o.Spec.Subscribers[1].Sink = Service("shop", "missing")
	if _, err := client.Get(w.Ctx).EventsV1alpha1().Triggers("shop").Update(w.Ctx, o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	reconcile(w, key)
	if got := get(t, w).Status.GetCondition(v1alpha1.TriggerSubscribersReady).Reason; got != "SinkNotResolved" {
		t.Fatalf("reason %s, want SinkNotResolved", got)
	}
	if got, want := len(w.Plan("shop", "trigger-t").Subscribers), 2; got != want {
		t.Errorf("%d subscribers run, want %d: until the new sink is there, the old one is served", got, want)
	}
	d, err := kubeclient.Get(w.Ctx).AppsV1().Deployments("shop").Get(w.Ctx, "trigger-t", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if env := d.Spec.Template.Spec.Containers[0].Env; !slices.Contains(env, corev1.EnvVar{Name: "LOG_LEVEL", Value: level}) {
		t.Errorf("environment %v, want the log level %s", env, level)
	}
}

// TestARemovedSubscriberEnds although another one cannot run, be it new or not, and although there is no bus.
func TestARemovedSubscriberEnds(t *testing.T) {
	display := Addressable("shop", "display", "http://display.shop.example.com")
	there, missing := Service("shop", "display"), Service("shop", "missing")
	with := func(sinks ...*v1alpha1.Sink) *v1alpha1.Trigger {
		options := []func(*v1alpha1.Trigger){OnBus("b"), onOrders}
		for _, s := range sinks {
			options = append(options, WithSubscriber("a", s))
		}
		return Trigger("shop", "t", options...)
	}
	w := NewWorld(t, bus, orders, with(sink, there), display)
	events := client.Get(w.Ctx).EventsV1alpha1()
	for _, step := range []struct {
		name    string
		next    *v1alpha1.Trigger
		runs    []string
		retired int
	}{
		{"all run", with(sink, there), []string{"http://display.shop.example.com", "http://sink.example.com"}, 0},
		{"a new one waits", with(sink, there, missing), []string{"http://display.shop.example.com", "http://sink.example.com"}, 0},
		{"one is removed meanwhile", with(sink, missing), []string{"http://sink.example.com"}, 1},
		{"the other one is led to where nobody is", with(Service("shop", "nobody"), missing), []string{"http://sink.example.com"}, 1},
		{"it is removed too, and leaves nothing", with(missing), nil, 0},
	} {
		o := get(t, w)
		o.Spec = step.next.Spec
		if _, err := events.Triggers("shop").Update(w.Ctx, o, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		w.Sync()
		if p := reconcile(w, key); p.Err != nil {
			t.Fatal(p.Err)
		}
		w.Sync()
		var got []string
		var p plan.Plan
		if _, err := kubeclient.Get(w.Ctx).CoreV1().Secrets("shop").Get(w.Ctx, "trigger-t", metav1.GetOptions{}); err == nil {
			p = *w.Plan("shop", "trigger-t")
		}
		for _, s := range p.Subscribers {
			got = append(got, s.Sink.URL)
		}
		slices.Sort(got)
		if !slices.Equal(got, step.runs) || len(p.Retired) != step.retired {
			t.Errorf("%s: events go to %q, and %d are retired, want %q and %d", step.name, got, len(p.Retired), step.runs, step.retired)
		}
	}
}

// TestWhatGoesOnIsLookedAfter: what runs for a Trigger whose bus is gone, or that is not valid any more, is counted, mended and upgraded.
func TestWhatGoesOnIsLookedAfter(t *testing.T) {
	w := NewWorld(t, bus, orders, Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)))
	reconcile(w, key)
	w.Start()
	kube, events := kubeclient.Get(w.Ctx), client.Get(w.Ctx).EventsV1alpha1()
	for _, step := range []struct {
		name, image string
		do          func() error
	}{
		{"the bus goes", "gateway:v2", func() error { return events.EventBuses("shop").Delete(w.Ctx, "b", metav1.DeleteOptions{}) }},
		{"it is not valid any more", "gateway:v3", func() error {
			tr, level := get(t, w), "loud"
			tr.Spec.LogLevel = &level
			_, err := events.Triggers("shop").Update(w.Ctx, tr, metav1.UpdateOptions{})
			return err
		}},
	} {
		t.Setenv("GATEWAY_IMAGE", step.image)
		if err := errors.Join(step.do(), kube.RbacV1().Roles("shop").Delete(w.Ctx, "trigger-t", metav1.DeleteOptions{})); err != nil {
			t.Fatal(err)
		}
		w.Sync()
		p := reconcile(w, key)
		if diff := cmp.Diff([]string{"create trigger-t: roles", "update trigger-t: deployments", "update t: triggers/status"}, p.Writes); diff != "" {
			t.Errorf("%s: writes (-want, +got):\n%s", step.name, diff)
		}
		if s := get(t, w).Status; s.State != "Error" || s.WorkloadStatistics != "1/1" {
			t.Errorf("%s: state %s, workloads %s, want Error and 1/1", step.name, s.State, s.WorkloadStatistics)
		}
		w.Sync()
		if p := reconcile(w, key); p.Writes != nil {
			t.Errorf("%s: the next pass writes %q", step.name, p.Writes)
		}
	}
	if got, want := len(w.Plan("shop", "trigger-t").Subscribers), 1; got != want {
		t.Errorf("%d subscribers run, want %d", got, want)
	}
}

// TestOptionalChildrenThatFail keep nothing from running, and are tried again.
func TestOptionalChildrenThatFail(t *testing.T) {
	w := NewWorld(t, bus, orders, Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)), DaprDefinition())
	fails := apierrors.NewInternalError(errors.New("conversion webhook failed"))
	dynamicclient.Get(w.Ctx).PrependReactor("create", "components", func(clientgotesting.Action) (bool, runtime.Object, error) { return true, nil, fails })
	children := Optional(w, component, 1)
	if p := reconcileWith(w, key, children); !errors.Is(p.Err, fails) {
		t.Errorf("error %v, want one, so that it is tried again", p.Err)
	}
	w.Start()
	reconcileWith(w, key, children)
	const want = "Limited: create Component shop/eventbus-trigger-t: Internal error occurred: conversion webhook failed; "
	if got := Text(&get(t, w).Status.WorkloadStatus, &get(t, w).Status.Status); !strings.HasPrefix(got, "Running") || !strings.Contains(got, want) {
		t.Errorf("status is\n%s, want Running with %s", got, want)
	}
}

// TestThePasswordOfASinkIsNotTold relies on Reconcile, which looks for it in all that is written but the spec.
func TestThePasswordOfASinkIsNotTold(t *testing.T) {
	tr := Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", URI("http://me:hunter2@sink.example.com/in")))
	w := NewWorld(t, bus, orders, tr, DaprDefinition())
	p := reconcileWith(w, key, Optional(w, component, 1))
	if want := "create " + dapr.TriggerParts(tr)[1].Name + ": components"; !slices.Contains(p.Writes, want) {
		t.Errorf("writes %q, want %q among them", p.Writes, want)
	}
	if got, want := w.Plan("shop", "trigger-t").Subscribers[0].Sink.URL, "http://me:hunter2@sink.example.com/in"; got != want {
		t.Errorf("events go to %s, want %s", got, want)
	}
}

func TestOptional(t *testing.T) {
	stan := ClusterEventBus("b", NATSStreaming("queue"), func(spec *v1alpha1.EventBusSpec, _ *v1alpha1.EventBusStatus) {
		spec.NATSStreaming.ScaleOption = &v1alpha1.NATSStreamingScaleOption{NATSServerMonitoringEndpoint: "stan:8222", LagThreshold: "10"}
	})
	people := EventSource("crm", "people", WithBus("b"), WithHTTP("new"), WithAllowed("shop"))
	join := Trigger("shop", "t", OnBus("b"), WithInput("a", "crm", "people", "new"), WithInput("b", "crm", "people", "new"), WithSubscriber("a && b", sink))
	w := NewWorld(t, stan, people, join, DaprDefinition(), KEDADefinition())
	children := Optional(w, component, 2)
	got := reconcileWith(w, key, children)
	if diff := cmp.Diff([]string{
		"create trigger-t: " + allChildren + " scaledobjects",
		"create eventbus-trigger-t: components",
		"create " + dapr.TriggerParts(get(t, w))[1].Name + ": components",
		"update t: triggers/status",
	}, got.Writes); diff != "" {
		t.Errorf("writes (-want, +got):\n%s", diff)
	}
	w.Start()
	reconcileWith(w, key, children)
	if got, want := get(t, w).Status.GetCondition(v1alpha1.TriggerSubscribersReady).Message, "it is not scaled beyond one replica: "+
		`what the condition "a && b" waits for could arrive at another one`; got != want {
		t.Errorf("note %q, want %q", got, want)
	}

	people.Spec.AllowedNamespaces = nil
	if _, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("crm").Update(w.Ctx, people, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	got = reconcileWith(w, key, Optional(w, component, 2)) // which knows what was created
	if diff := cmp.Diff([]string{"delete trigger-t: " + deleted + " scaledobjects", "update t: triggers/status"}, got.Writes); diff != "" {
		t.Errorf("writes when it is no longer allowed (-want, +got):\n%s", diff)
	}
}

func TestServerAway(t *testing.T) {
	w := NewWorld(t, bus, orders, Trigger("shop", "t", OnBus("b"), onOrders, WithSubscriber("a", sink)))
	kubeclient.Get(w.Ctx).PrependReactor("create", "deployments", InduceFailure)
	if p := reconcile(w, key); p.Err == nil {
		t.Errorf("%+v, want an error, so that it is tried again", p)
	}
}
