package eventsource

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
	informer "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/reconciler/keda"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/optional"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

const key = "shop/es"

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
	return w.Reconcile(eventsource.NewReconciler(w.Ctx, logging.FromContext(w.Ctx), client.Get(w.Ctx), informer.Get(w.Ctx).Lister(),
		controller.GetEventRecorder(w.Ctx), r), key)
}

// withURL is a Secret that holds the URL of a sink.
func withURL(url string) *corev1.Secret {
	s := Secret("shop", "hook")
	s.Data = map[string][]byte{"url": []byte(url)}
	return s
}

func get(t *testing.T, w *World) *v1alpha1.EventSource {
	t.Helper()
	es, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Get(w.Ctx, "es", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return es
}

func TestStatus(t *testing.T) {
	bus := EventBus("shop", "b")
	sink := Addressable("shop", "display", "http://display.shop.example.com")
	tick := func(options ...func(*v1alpha1.EventSource)) *v1alpha1.EventSource {
		return EventSource("shop", "es", append([]func(*v1alpha1.EventSource){WithBus("b"), WithCron("tick")}, options...)...)
	}
	for _, tt := range []struct {
		name    string
		es      *v1alpha1.EventSource
		objects []runtime.Object
		want    string
	}{
		{"everything is there", tick(WithKafka("orders", "kafka"), WithHTTP("in"), WithHTTP("on"), WithSink(Service("shop", "display"))),
			[]runtime.Object{bus, Secret("shop", "kafka"), sink}, `
Running components 6/6 workloads 3/3
BusReady True
SinkResolved True
SourcesReady True
`},
		{"members of a group", tick(WithMQTT("m", 3)), []runtime.Object{bus}, `
Running components 3/3 workloads 4/4
BusReady True
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True
`},
		{"http only", EventSource("shop", "es", WithBus("b"), WithHTTP("in")), []runtime.Object{bus}, `
Running components 2/2 workloads 1/1
BusReady True
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True
`},
		{"two kinds have an event of one name", EventSource("shop", "es", WithBus("b"), WithCron("e"), WithHTTP("e"), WithSink(URI("http://sink.example.com"))),
			[]runtime.Object{bus}, `
Running components 4/4 workloads 2/2
BusReady True
SinkResolved True
SourcesReady True
`},
		{"a sink and no bus", EventSource("shop", "es", WithCron("tick"), WithSink(URI("http://sink.example.com"))), nil, `
Running components 2/2 workloads 1/1
BusReady True NotUsed: spec.eventBus is not set
SinkResolved True
SourcesReady True
`},
		{"a sink in a Secret", tick(WithSink(URIFrom("hook", "url"))), []runtime.Object{bus, withURL("http://pl4nted.example.com")}, `
Running components 3/3 workloads 1/1
BusReady True
SinkResolved True InSecret: the URL is in key "url" of Secret hook
SourcesReady True
`},
		{"a sink in a Secret that holds no URL", tick(WithSink(URIFrom("hook", "url"))), []runtime.Object{bus, withURL("pl4nted")}, `
Error components 2/3 workloads 1/1
BusReady True
SinkResolved False SecretInvalid: spec.sink.uriFrom: key "url" of Secret shop/hook is not an http or https URL: write one there, such as https://example.com/in
SourcesReady True
`},
		{"a sink in a Secret that is missing, and no bus", EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithSink(URIFrom("hook", "url"))), nil, `
Error components 0/3 workloads 0/1
BusReady False BusNotFound: spec.eventBus: no EventBus "b" in namespace shop and no ClusterEventBus "b" (there are no others either); add an EventBus named b, for example with spec.embedded: {}
SinkResolved False SecretNotFound: spec.sink.uriFrom: key "url" of Secret shop/hook: there is no such Secret: create it, or correct the name
SourcesReady Unknown BusNotFound: no event is received until the bus can be used
`},
		{"no bus", tick(), nil, `
Error components 0/2 workloads 0/1
BusReady False BusNotFound: spec.eventBus: no EventBus "b" in namespace shop and no ClusterEventBus "b" (there are no others either); add an EventBus named b, for example with spec.embedded: {}
SinkResolved True NotUsed: spec.sink is not set
SourcesReady Unknown BusNotFound: no event is received until the bus can be used
`},
		{"the shared gateway does not reach the bus, but who receives the events does", tick(), []runtime.Object{EventBus("shop", "b", Unreachable)}, `
Running components 2/2 workloads 1/1
BusReady True
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True
`},
		{"a bus that does not answer", EventSource("shop", "es", WithBus("b"), WithHTTP("in")), []runtime.Object{EventBus("shop", "b", Unreachable)}, `
Error components 1/2 workloads 1/1
BusReady False Unreachable: EventBus shop/b: dial nats.nats:4222: refused
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True
`},
		{"a bus of which nothing is known yet", EventSource("shop", "es", WithBus("b"), WithHTTP("in")), []runtime.Object{EventBus("shop", "b", Unknown)}, `
Pending components 1/2 workloads 1/1
BusReady Unknown BusPending: EventBus shop/b is not known to answer yet
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True
`},
		{"a bus that is being looked at", EventSource("shop", "es", WithBus("b"), WithHTTP("in")), []runtime.Object{EventBus("shop", "b", Waiting)}, `
Pending components 1/2 workloads 1/1
BusReady Unknown Waiting: EventBus shop/b: the shared gateway has no pod
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True
`},
		{"an embedded bus without servers", tick(), []runtime.Object{EventBus("shop", "b", Embedded)}, `
Error components 0/2 workloads 0/1
BusReady False BusNotReady: spec.eventBus: EventBus shop/b cannot be used: spec.embedded: its servers are not made yet
SinkResolved True NotUsed: spec.sink is not set
SourcesReady Unknown BusNotReady: no event is received until the bus can be used
`},
		{"no sink, with a bus", tick(WithSink(Service("shop", "display"))), []runtime.Object{bus}, `
Error components 2/3 workloads 1/1
BusReady True
SinkResolved False SinkNotResolved: spec.sink: Service shop/display (serving.knative.dev/v1) does not exist: create it, or correct the ref
SourcesReady True
`},
		{"no sink, and no bus", EventSource("shop", "es", WithCron("tick"), WithSink(Service("shop", "display"))), nil, `
Error components 0/2 workloads 0/1
BusReady True NotUsed: spec.eventBus is not set
SinkResolved False SinkNotResolved: spec.sink: Service shop/display (serving.knative.dev/v1) does not exist: create it, or correct the ref
SourcesReady Unknown SinkNotResolved: no event is received until it is known where the sink leads
`},
		{"no Secret", tick(WithKafka("orders", "kafka")), []runtime.Object{bus}, `
Error components 2/3 workloads 1/2
BusReady True
SinkResolved True NotUsed: spec.sink is not set
SourcesReady False SecretNotFound: spec.kafka[orders].saslPasswordFrom: key "password" of Secret shop/kafka: there is no such Secret: create it, or correct the name
`},
		{"invalid by today's rules", tick(func(es *v1alpha1.EventSource) { es.Spec.Cron["tick"].Schedule, es.Spec.LogLevel = "", "loud" }), []runtime.Object{bus}, `
Error components 0/2 workloads 0/1
BusReady Unknown Invalid: not looked at until the object is valid
SinkResolved True NotUsed: spec.sink is not set
SourcesReady False Invalid: spec.cron[tick].schedule: is empty: write five cron fields such as "*/5 * * * *", or a descriptor such as @hourly or "@every 5s"; spec.logLevel: "loud" is not a log level: use debug, info, warn, error, or a verbosity from "1" to "9"
`},
		{"long names", EventSource("shop", "es", WithBus("b"), WithCron(long+"1"), WithCron(long+"2")), []runtime.Object{bus}, `
Running components 3/3 workloads 2/2
BusReady True
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t, append(tt.objects, tt.es)...)
			w.StartShared()
			reconcile(w, key)
			w.Start()
			if p := reconcile(w, key); p.Err != nil || len(p.Writes) > 1 {
				t.Errorf("second pass: error %v, writes %q, want at most the status", p.Err, p.Writes)
			}
			es := get(t, w)
			if diff := cmp.Diff(tt.want[1:], Text(&es.Status.WorkloadStatus, &es.Status.Status)); diff != "" {
				t.Errorf("status (-want, +got):\n%s", diff)
			}
			if p := reconcile(w, key); p.Writes != nil || p.Events != nil {
				t.Errorf("third pass writes %q and tells %q, want nothing", p.Writes, p.Events)
			}
		})
	}
}

// TestTheSubscriptionOfASinkIsNamed is what the shared gateway's plan is made anew from when its Secret is gone.
func TestTheSubscriptionOfASinkIsNamed(t *testing.T) {
	w := NewWorld(t, EventBus("shop", "b"), EventSource("shop", "es", WithBus("b"), WithHTTP("in"), WithSink(URI("http://sink.example.com"))))
	reconcile(w, key)
	es := get(t, w)
	if len(es.Status.Subscriptions) != 1 || es.Status.Subscriptions[0].Key != "" {
		t.Fatalf("subscriptions %+v, want one of its own name", es.Status.Subscriptions)
	}
	want := []v1alpha1.SubscriptionStatus{{Name: "elder", Key: es.Status.Subscriptions[0].Name}}
	es.Status.Subscriptions = want
	if _, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").UpdateStatus(w.Ctx, es, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	reconcile(w, key)
	if diff := cmp.Diff(want, get(t, w).Status.Subscriptions); diff != "" {
		t.Errorf("subscriptions (-want, +got):\n%s", diff)
	}
}

var long = strings.Repeat("a-long-name-", 5)

func TestAddresses(t *testing.T) {
	es := EventSource("shop", "es", WithHTTP("in"), WithHTTP("again"), WithSink(Service("shop", "display")))
	w := NewWorld(t, es, Addressable("shop", "display", "http://display.shop.example.com/"))
	reconcile(w, key)
	es = get(t, w)
	if got, want := es.Status.Address.URL.String(), "http://events-gateway.knative-testing.svc.cluster.local/shop/es/again"; got != want {
		t.Errorf("address = %s, want %s", got, want)
	}
	if got, want := es.Status.SinkURI.String(), "http://display.shop.example.com/"; got != want {
		t.Errorf("sinkUri = %s, want %s", got, want)
	}
	if got, want := es.Status.ObservedGeneration, int64(1); got != want {
		t.Errorf("observedGeneration = %d, want %d", got, want)
	}
}

// TestThePasswordOfASinkIsNotTold relies on Reconcile, which looks for it in all that is written but the spec.
func TestThePasswordOfASinkIsNotTold(t *testing.T) {
	es := EventSource("shop", "es", WithCron("tick"), WithSink(URI("http://me:hunter2@sink.example.com/in?a=b")))
	w := NewWorld(t, es, DaprDefinition())
	p := reconcileWith(w, key, Optional(w, component, 1))
	if want := "create eventsource-sink-es: components"; !slices.Contains(p.Writes, want) {
		t.Errorf("writes %q, want %q among them", p.Writes, want)
	}
	if got, want := get(t, w).Status.SinkURI.String(), "http://sink.example.com/in?a=b"; got != want {
		t.Errorf("sinkUri = %s, want %s", got, want)
	}
	if got, want := w.Plan("shop", "eventsource-es-cron-tick").Sources[0].Sink.URL, "http://me:hunter2@sink.example.com/in?a=b"; got != want {
		t.Errorf("events go to %s, want %s", got, want)
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"too/many/slashes", "shop/missing"} {
		if p := reconcile(NewWorld(t), key); p.Err != nil || p.Again != "never" || p.Writes != nil {
			t.Errorf("key %s: %+v, want nothing", key, p)
		}
	}
}

const allChildren = "serviceaccounts roles rolebindings secrets deployments"

// deleted are the same in the order of their going.
const deleted = "secrets deployments rolebindings roles serviceaccounts"

func TestStory(t *testing.T) {
	w := NewWorld(t, EventBus("shop", "b"), EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithKafka("orders", "")))
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	events := client.Get(w.Ctx).EventsV1alpha1()
	edit := func(change func(*v1alpha1.EventSource)) {
		es := get(t, w)
		change(es)
		es.Generation++
		_, err := events.EventSources("shop").Update(w.Ctx, es, metav1.UpdateOptions{})
		must(err)
	}
	for _, step := range []struct {
		name  string
		do    func()
		want  Pass
		state string
	}{
		{"it is new", func() {}, Pass{
			Writes: []string{"create eventsource-es-cron-tick: " + allChildren, "create eventsource-es-kafka-orders: " + allChildren, "update es: eventsources/status"},
			Again:  "soon",
		}, "Pending"},
		{"nothing happens", func() {}, Pass{Again: "soon"}, "Pending"},
		{"its pods start", w.Start, Pass{
			Writes: []string{"update es: eventsources/status"},
			Events: []string{"Normal Ready events flow"},
			Again:  "later",
		}, "Running"},
		{"nothing happens", func() {}, Pass{Again: "later"}, "Running"},
		{"somebody deletes a child", func() {
			must(kubeclient.Get(w.Ctx).RbacV1().Roles("shop").Delete(w.Ctx, "eventsource-es-cron-tick", metav1.DeleteOptions{}))
		}, Pass{
			Writes: []string{"create eventsource-es-cron-tick: roles"},
			Again:  "later",
		}, "Running"},
		{"a gateway reports a problem", func() { w.Gateways.Problem("EventSource shop/es", "kafka orders: dial kafka.kafka:9092: refused") }, Pass{
			Writes: []string{"update es: eventsources/status"},
			Events: []string{"Warning Unreachable eventsource-es-cron-tick: kafka orders: dial kafka.kafka:9092: refused; eventsource-es-kafka-orders: kafka orders: dial kafka.kafka:9092: refused"},
			Again:  "soon",
		}, "Error"},
		{"it is cured, and the spec changes meanwhile", func() {
			w.Gateways.Problem("EventSource shop/es")
			edit(func(es *v1alpha1.EventSource) { es.Spec.Kafka["orders"].Topic = "orders-v2" })
		}, Pass{
			Writes: []string{"update eventsource-es-kafka-orders: secrets", "update es: eventsources/status"},
			Events: []string{"Normal Ready events flow"},
			Again:  "later",
		}, "Running"},
		{"another spec that works is no news", func() { edit(func(es *v1alpha1.EventSource) { es.Spec.Kafka["orders"].Topic = "orders-v3" }) }, Pass{
			Writes: []string{"update eventsource-es-kafka-orders: secrets", "update es: eventsources/status"},
			Again:  "later",
		}, "Running"},
		{"the bus goes, and the workloads stay", func() { must(events.EventBuses("shop").Delete(w.Ctx, "b", metav1.DeleteOptions{})) }, Pass{
			Writes: []string{"update es: eventsources/status"},
			Events: []string{`Warning BusNotFound spec.eventBus: no EventBus "b" in namespace shop and no ClusterEventBus "b" (there are no others either); add an EventBus named b, for example with spec.embedded: {}`},
			Again:  "later",
		}, "Error"},
		{"an event goes while there is no bus", func() { edit(func(es *v1alpha1.EventSource) { es.Spec.Kafka = nil }) }, Pass{
			Writes: []string{"delete eventsource-es-kafka-orders: " + deleted, "update es: eventsources/status"},
			Again:  "later",
		}, "Error"},
		{"the bus is back", func() { w.Create(EventBus("shop", "b")) }, Pass{
			Writes: []string{"update es: eventsources/status"},
			Events: []string{"Normal Ready events flow"},
			Again:  "later",
		}, "Running"},
		{"an upgrade makes it invalid, and the workload stays", func() { edit(func(es *v1alpha1.EventSource) { es.Spec.LogLevel = "loud" }) }, Pass{
			Writes: []string{"update es: eventsources/status"},
			Events: []string{`Warning Invalid spec.logLevel: "loud" is not a log level: use debug, info, warn, error, or a verbosity from "1" to "9"`},
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

func TestOptional(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithKafka("orders", ""), func(es *v1alpha1.EventSource) {
		es.Spec.Kafka["orders"].ScaleOption = &v1alpha1.KafkaScaleOption{LagThreshold: "10"}
	})
	taken := Component("shop", "eventsource-es-cron-tick")
	w := NewWorld(t, EventBus("shop", "b"), es, DaprDefinition(), KEDADefinition(), taken)
	children := Optional(w, component, 2)
	got := reconcileWith(w, key, children)
	if diff := cmp.Diff([]string{
		"create eventsource-es-cron-tick: " + allChildren + " components", // which is refused
		"create eventsource-es-kafka-orders: " + allChildren + " components scaledobjects",
		"create eventbus-eventsource-es: components",
		"update es: eventsources/status",
	}, got.Writes); diff != "" {
		t.Errorf("writes (-want, +got):\n%s", diff)
	}
	w.Start()
	reconcileWith(w, key, children)
	if diff := cmp.Diff(`Running components 3/3 workloads 2/2
BusReady True
SinkResolved True NotUsed: spec.sink is not set
SourcesReady True Limited: Component shop/eventsource-es-cron-tick is in the way: it is not ours; rename one of the two, or delete it
`, Text(&get(t, w).Status.WorkloadStatus, &get(t, w).Status.Status)); diff != "" {
		t.Errorf("status (-want, +got):\n%s", diff)
	}
}

func TestOptionalChildrenThatAreRefused(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithKafka("orders", ""), func(es *v1alpha1.EventSource) {
		es.Spec.Kafka["orders"].ScaleOption = &v1alpha1.KafkaScaleOption{LagThreshold: "10"}
	})
	w := NewWorld(t, EventBus("shop", "b"), es, KEDADefinition())
	dynamicclient.Get(w.Ctx).PrependReactor("create", "scaledobjects", func(clientgotesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(keda.Resource.GroupResource(), "eventsource-es-kafka-orders", errors.New("the workload has another scaler"))
	})
	children := Optional(w, component, 1)
	reconcileWith(w, key, children)
	w.Start()
	reconcileWith(w, key, children)
	const want = `Limited: create ScaledObject shop/eventsource-es-kafka-orders: scaledobjects.keda.sh "eventsource-es-kafka-orders" is forbidden: the workload has another scaler`
	if got := Text(&get(t, w).Status.WorkloadStatus, &get(t, w).Status.Status); !strings.HasPrefix(got, "Running") || !strings.Contains(got, want) {
		t.Errorf("status is\n%s, want Running with %s", got, want)
	}
}

// TestTwoOfOneName: the workload of event c of a-kafka-b has the name of that of event b-kafka-c of a.
func TestTwoOfOneName(t *testing.T) {
	first, second := EventSource("shop", "es", WithBus("b"), WithKafka("b-kafka-c", "")), EventSource("shop", "es-kafka-b", WithBus("b"), WithKafka("c", ""))
	w := NewWorld(t, EventBus("shop", "b"), first, second)
	pass := func(key string) string {
		t.Helper()
		if p := reconcile(w, key); p.Err != nil {
			t.Fatal(p.Err)
		}
		_, name, _ := strings.Cut(key, "/")
		es, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Get(w.Ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return es.Status.State + ": " + es.Status.Message
	}
	pass("shop/es")
	w.Start()
	for range 2 {
		if got, want := pass("shop/es"), "Running: "; got != want {
			t.Errorf("the first is %s, want %s", got, want)
		}
		want := "Error: eventsource-es-kafka-b-kafka-c: ServiceAccount shop/eventsource-es-kafka-b-kafka-c is in the way: it does not belong to this EventSource; " +
			"delete it, or give the EventSource another name"
		if got := pass("shop/es-kafka-b"); got != want {
			t.Errorf("the second is %s, want %s", got, want)
		}
	}
	if got, want := w.Plan("shop", "eventsource-es-kafka-b-kafka-c").Sources[0].EventSource, "es"; got != want {
		t.Errorf("the workload receives for %s, want %s", got, want)
	}
	if err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Delete(w.Ctx, "es-kafka-b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	if p := reconcile(w, "shop/es-kafka-b"); p.Writes != nil {
		t.Errorf("the second takes along %v, which are not its own", p.Writes)
	}
}

func TestAnInvalidOneKeepsItsChildren(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithCron("tick"))
	w := NewWorld(t, EventBus("shop", "b"), es, DaprDefinition())
	children := Optional(w, component, 1)
	reconcileWith(w, key, children)
	es = get(t, w)
	es.Spec.LogLevel = "loud"
	if _, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Update(w.Ctx, es, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	again := Optional(w, component, 1) // which knows the Components
	if diff := cmp.Diff([]string{"update es: eventsources/status"}, reconcileWith(w, key, again).Writes); diff != "" {
		t.Errorf("writes (-want, +got):\n%s", diff)
	}
}

// TestWhatGoesOnIsLookedAfter: what runs for an EventSource whose bus is gone, or that is not valid any more, is counted, mended and upgraded.
func TestWhatGoesOnIsLookedAfter(t *testing.T) {
	w := NewWorld(t, EventBus("shop", "b"), EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithHTTP("in"), func(es *v1alpha1.EventSource) { es.Spec.LogLevel = "debug" }))
	w.StartShared()
	reconcile(w, key)
	w.Start()
	kube, events := kubeclient.Get(w.Ctx), client.Get(w.Ctx).EventsV1alpha1()
	for _, step := range []struct {
		name, image string
		do          func() error
	}{
		{"the bus goes", "gateway:v2", func() error { return events.EventBuses("shop").Delete(w.Ctx, "b", metav1.DeleteOptions{}) }},
		{"it is not valid any more", "gateway:v3", func() error {
			es := get(t, w)
			es.Spec.LogLevel = "loud"
			_, err := events.EventSources("shop").Update(w.Ctx, es, metav1.UpdateOptions{})
			return err
		}},
	} {
		t.Setenv("GATEWAY_IMAGE", step.image)
		if err := errors.Join(step.do(), kube.RbacV1().Roles("shop").Delete(w.Ctx, "eventsource-es-cron-tick", metav1.DeleteOptions{})); err != nil {
			t.Fatal(err)
		}
		w.Sync()
		p := reconcile(w, key)
		if diff := cmp.Diff([]string{"create eventsource-es-cron-tick: roles", "update eventsource-es-cron-tick: deployments", "update es: eventsources/status"}, p.Writes); diff != "" {
			t.Errorf("%s: writes (-want, +got):\n%s", step.name, diff)
		}
		if s := get(t, w).Status; s.State != "Error" || s.WorkloadStatistics != "2/2" {
			t.Errorf("%s: state %s, workloads %s, want Error and 2/2", step.name, s.State, s.WorkloadStatistics)
		}
		d, err := kube.AppsV1().Deployments("shop").Get(w.Ctx, "eventsource-es-cron-tick", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c := d.Spec.Template.Spec.Containers[0]
		if c.Image != step.image || !slices.Contains(c.Env, corev1.EnvVar{Name: "LOG_LEVEL", Value: "debug"}) {
			t.Errorf("%s: image %s, environment %v; want %s and the log level debug", step.name, c.Image, c.Env, step.image)
		}
		w.Sync()
		if p := reconcile(w, key); p.Writes != nil {
			t.Errorf("%s: the next pass writes %q", step.name, p.Writes)
		}
	}
}

// TestOptionalChildrenThatFail keep nothing from running, and are tried again.
func TestOptionalChildrenThatFail(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithKafka("orders", ""))
	w := NewWorld(t, EventBus("shop", "b"), es, DaprDefinition())
	fails := apierrors.NewInternalError(errors.New("conversion webhook failed"))
	broken := true
	dynamicclient.Get(w.Ctx).PrependReactor("create", "components", func(clientgotesting.Action) (bool, runtime.Object, error) { return broken, nil, fails })
	children := Optional(w, component, 1)
	if p := reconcileWith(w, key, children); !errors.Is(p.Err, fails) {
		t.Errorf("error %v, want one, so that it is tried again", p.Err)
	}
	w.Start()
	reconcileWith(w, key, children)
	const want = "Limited: create Component shop/eventbus-eventsource-es: Internal error occurred: conversion webhook failed; "
	if got := Text(&get(t, w).Status.WorkloadStatus, &get(t, w).Status.Status); !strings.HasPrefix(got, "Running") || !strings.Contains(got, want) {
		t.Errorf("status is\n%s, want Running with %s", got, want)
	}
	broken = false
	if p := reconcileWith(w, key, children); p.Err != nil {
		t.Error(p.Err)
	}
	if got := get(t, w).Status.GetCondition(v1alpha1.EventSourceSourcesReady).Message; got != "" {
		t.Errorf("message %q once it works, want none", got)
	}
}

// TestRunningMeansReady, also of an edit that cannot be looked at yet.
func TestRunningMeansReady(t *testing.T) {
	w := NewWorld(t, EventBus("shop", "b"), EventSource("shop", "es", WithBus("b"), WithCron("tick")))
	reconcile(w, key)
	w.Start()
	reconcile(w, key)
	es := get(t, w)
	es.Generation++
	es.Spec.LogLevel = "debug"
	if _, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Update(w.Ctx, es, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	kubeclient.Get(w.Ctx).PrependReactor("update", "deployments", InduceFailure)
	if p := reconcile(w, key); p.Err == nil {
		t.Error("no error, so it is not tried again")
	}
	if s := get(t, w).Status; s.State != "Pending" || s.GetCondition("Ready").IsTrue() {
		t.Errorf("state %s and Ready %v, want Pending and Unknown", s.State, s.GetCondition("Ready"))
	}
}

func TestASourceWaitsForTheSubscriptionsOfItsSink(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithSink(Service("shop", "display")))
	w := NewWorld(t, EventBus("shop", "b"), es, Addressable("shop", "display", "http://display.shop.example.com"))
	reconcile(w, key)
	if _, err := kubeclient.Get(w.Ctx).AppsV1().Deployments("shop").Get(w.Ctx, "eventsource-es-cron-tick", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the source runs before anybody listens (%v)", err)
	}
	if got, want := get(t, w).Status.Message, "it begins when the subscriptions of spec.sink exist"; !strings.Contains(got, want) {
		t.Errorf("message %q, want %q", got, want)
	}
}

// TestASinkOnABusWhereASubscriptionBelongsToOneProcess has a workload of its own, which begins first.
func TestASinkOnABusWhereASubscriptionBelongsToOneProcess(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithSink(URI("http://sink.example.com")))
	w := NewWorld(t, EventBus("shop", "b", NATSStreaming("topic")), es)
	for _, step := range []struct{ writes, state, workloads string }{
		{"create eventsource-sink-es: " + allChildren, "Pending", "0/2"},
		{"create eventsource-es-cron-tick: " + allChildren, "Pending", "1/2"},
		{"", "Running", "2/2"},
		{"", "Running", "2/2"},
	} {
		p := reconcile(w, key)
		if p.Err != nil {
			t.Fatal(p.Err)
		}
		writes := slices.DeleteFunc(p.Writes, func(line string) bool { return line == "update es: eventsources/status" })
		s := get(t, w).Status
		if got := strings.Join(writes, "; "); got != step.writes || s.State != step.state || s.WorkloadStatistics != step.workloads {
			t.Errorf("writes %q, state %s, workloads %s (%s); want %+v", got, s.State, s.WorkloadStatistics, s.Message, step)
		}
		w.Start()
	}
	es = get(t, w)
	es.Spec.Sink = nil
	if _, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Update(w.Ctx, es, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	if got, want := reconcile(w, key).Writes, "delete eventsource-sink-es: "+deleted; !slices.Contains(got, want) {
		t.Errorf("without the sink it writes %q, want %q", got, want)
	}
}

func TestASinkThatIsNotThereYet(t *testing.T) {
	es := EventSource("shop", "es", WithCron("tick"), WithSink(Service("shop", "display")))
	es.Spec.LogLevel = "debug"
	w := NewWorld(t, es, Addressable("shop", "display", "http://display.shop.example.com"))
	reconcile(w, key)
	o := get(t, w)
	o.Spec.Sink = Service("shop", "missing")
	if _, err := client.Get(w.Ctx).EventsV1alpha1().EventSources("shop").Update(w.Ctx, o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	reconcile(w, key)
	if got := get(t, w).Status.GetCondition(v1alpha1.EventSourceSinkResolved).Reason; got != "SinkNotResolved" {
		t.Fatalf("reason %s, want SinkNotResolved", got)
	}
	if got, want := w.Plan("shop", "eventsource-es-cron-tick").Sources[0].Sink.URL, "http://display.shop.example.com"; got != want {
		t.Errorf("events go to %s, want %s: until the new sink is there, the old one is served", got, want)
	}
	d, err := kubeclient.Get(w.Ctx).AppsV1().Deployments("shop").Get(w.Ctx, "eventsource-es-cron-tick", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if env := d.Spec.Template.Spec.Containers[0].Env; !slices.Contains(env, corev1.EnvVar{Name: "LOG_LEVEL", Value: "debug"}) {
		t.Errorf("environment %v, want the log level debug", env)
	}
}

func TestScaledToZero(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithKafka("orders", ""), func(es *v1alpha1.EventSource) {
		es.Spec.Kafka["orders"].ScaleOption = &v1alpha1.KafkaScaleOption{LagThreshold: "10"}
	})
	for _, tt := range []struct {
		name      string
		objects   []runtime.Object
		installed int
		want      string
		replicas  int32
	}{
		{"KEDA decides on the replicas", []runtime.Object{KEDADefinition()}, 1, "Running", 0},
		{"without KEDA nobody else does", nil, 0, "Pending", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t, append(tt.objects, EventBus("shop", "b"), es)...)
			children := Optional(w, component, tt.installed)
			reconcileWith(w, key, children)
			deployments := kubeclient.Get(w.Ctx).AppsV1().Deployments("shop")
			d, err := deployments.Get(w.Ctx, "eventsource-es-kafka-orders", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			*d.Spec.Replicas = 0
			if _, err := deployments.Update(w.Ctx, d, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			w.Sync()
			reconcileWith(w, key, children)
			d, err = deployments.Get(w.Ctx, "eventsource-es-kafka-orders", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := get(t, w).Status.State; got != tt.want || *d.Spec.Replicas != tt.replicas {
				t.Errorf("state %s with %d replicas, want %s with %d", got, *d.Spec.Replicas, tt.want, tt.replicas)
			}
		})
	}
}

func TestServerAway(t *testing.T) {
	w := NewWorld(t, EventBus("shop", "b"), EventSource("shop", "es", WithBus("b"), WithCron("tick")))
	kubeclient.Get(w.Ctx).PrependReactor("create", "deployments", InduceFailure)
	if p := reconcile(w, key); p.Err == nil {
		t.Errorf("%+v, want an error, so that it is tried again", p)
	}
}
