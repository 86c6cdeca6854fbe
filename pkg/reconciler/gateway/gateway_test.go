package gateway

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgotesting "k8s.io/client-go/testing"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	secret "knative.dev/pkg/client/injection/kube/informers/core/v1/secret/filtered"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	pkgreconciler "knative.dev/pkg/reconciler"
	"knative.dev/pkg/system"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	eventsclient "github.com/openfunction/events/pkg/client/injection/client/fake"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/plan"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// world is a cluster with this controller.
type world struct {
	*World
	*controller.Impl
	t *testing.T
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	return newWorldOf(t, &configmap.ManualWatcher{}, objects...)
}

func newWorldOf(t *testing.T, settings configmap.Watcher, objects ...runtime.Object) *world {
	w := NewWorld(t, objects...)
	return &world{w, NewController(w.Ctx, settings), t}
}

// become replaces objects of this API by others.
func (w *world) become(before, after []runtime.Object) {
	w.t.Helper()
	tracker := eventsclient.Get(w.Ctx).Tracker()
	for _, o := range before {
		o := o.(kmeta.OwnerRefable)
		resource, _ := meta.UnsafeGuessKindToResource(o.GetGroupVersionKind())
		if err := tracker.Delete(resource, o.GetObjectMeta().GetNamespace(), o.GetObjectMeta().GetName()); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, o := range after {
		if err := tracker.Add(o.DeepCopyObject()); err != nil {
			w.t.Fatal(err)
		}
	}
	w.Sync()
}

// reconcile makes one pass as the leader.
func (w *world) reconcile() Pass {
	w.t.Helper()
	return w.World.Reconcile(w.Reconciler, key().String())
}

func key() types.NamespacedName {
	return types.NamespacedName{Namespace: system.Namespace(), Name: workload.SharedSecret}
}

// plan is what the Secret says, a line for each part.
func (w *world) plan() string {
	w.t.Helper()
	secret, err := kubeclient.Get(w.Ctx).CoreV1().Secrets(key().Namespace).Get(w.Ctx, key().Name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := plan.Decode(secret.Data[plan.SecretKey])
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, b := range p.Buses {
		lines = append(lines, strings.TrimSpace(b.Name+" "+b.JetStream.Token))
	}
	for _, s := range p.Sources {
		lines = append(lines, fmt.Sprintf("/%s/%s/%s to %s%s", s.Namespace, s.EventSource, s.Event, s.Bus, url(s.Sink)))
	}
	for _, s := range p.Subscribers {
		lines = append(lines, fmt.Sprintf("%s of %s to %s", s.Inputs[0].Topic, s.Bus, url(s.Sink)))
	}
	for _, r := range p.Retired {
		lines = append(lines, fmt.Sprintf("retired %s of %s", r.Topics[0], r.Bus))
	}
	return strings.Join(lines, "\n")
}

func url(t *plan.Target) string {
	if t == nil {
		return ""
	}
	return t.URL
}

// TestSubscriptionsOutliveTheSecret has the plan made anew: statuses know whose subscriptions have other names than they would have now.
func TestSubscriptionsOutliveTheSecret(t *testing.T) {
	es := EventSource("a", "es", WithBus("b"), WithHTTP("e"), WithSink(URI("http://sink")))
	bus := EventBus("a", "b")
	w := newWorld(t, bus, es)
	w.reconcile()
	id := w.Plan(key().Namespace, key().Name).Subscribers[0].ID
	es = EventSource("a", "es", WithBus("b"), WithHTTP("e"), WithSink(URI("http://sink")))
	es.Status.Subscriptions = []v1alpha1.SubscriptionStatus{{Name: "elder", Key: id}}
	w = newWorld(t, bus, es)
	w.reconcile()
	if got := w.Plan(key().Namespace, key().Name).Subscribers[0].ID; got != "elder" {
		t.Errorf("subscription %s, want elder, which the status remembers", got)
	}
}

func TestPlan(t *testing.T) {
	sink := WithSink(URI("http://sink"))
	all := func(objects ...runtime.Object) []runtime.Object { return objects }
	for _, tt := range []struct {
		name string
		// secrets and services are there all the time; objects change from before to after. While they do, Secrets fail to be read if fails.
		there, before, after []runtime.Object
		fails                bool
		want                 string
	}{
		{
			name:  "nothing is a plan too",
			after: all(),
			want:  "",
		},
		{
			name: "http events of all namespaces, on the buses that they mean",
			after: all(
				EventBus("a", "default"), ClusterEventBus("default"),
				EventSource("a", "es", WithHTTP("e"), WithHTTP("f")), EventSource("b", "es", WithHTTP("e")), EventSource("c", "direct", WithHTTP("e"), sink),
			),
			want: `
ClusterEventBus default
EventBus a/default
/a/es/e to EventBus a/default
/a/es/f to EventBus a/default
/b/es/e to ClusterEventBus default
/c/direct/e to http://sink`,
		},
		{
			name:  "buses that nobody uses are there, for their status, but not those that cannot be used",
			there: all(Secret("a", "s"), Servers("a", "eventbus-two")),
			after: all(EventBus("a", "one", WithToken("s")), EventBus("a", "two", Embedded), EventBus("b", "two", Embedded), EventBus("a", "three", WithToken("missing")), ClusterEventBus("four")),
			want: `
ClusterEventBus four
EventBus a/one t0ken
EventBus a/two`,
		},
		{
			name:  "the sinks of EventSources that have a bus are served here",
			there: all(Addressable("a", "svc", "http://svc.a")),
			after: all(
				EventBus("a", "default"),
				EventSource("a", "es", WithHTTP("e"), WithHTTP("both"), WithCron("both"), WithCron("tick"), WithBus("default"), WithSink(Service("", "svc"))),
				EventSource("a", "ticks", WithCron("tick"), WithBus("default"), sink),
			),
			want: `
EventBus a/default
/a/es/both to EventBus a/default
/a/es/e to EventBus a/default
openfunction.a.es.tick of EventBus a/default to http://svc.a
openfunction.a.es.both of EventBus a/default to http://svc.a
openfunction.a.es.e of EventBus a/default to http://svc.a
openfunction.a.ticks.tick of EventBus a/default to http://sink`,
		},
		{
			name:   "the sink's subscription of a removed EventSource is retired",
			before: all(EventBus("a", "default"), EventSource("a", "es", WithHTTP("e"), WithBus("default"), sink)),
			after:  all(EventBus("a", "default")),
			want: `
EventBus a/default
retired openfunction.a.es.e of EventBus a/default`,
		},
		{
			name:   "so is that of a removed event, but not when the event only gets another kind",
			before: all(EventBus("a", "default"), EventSource("a", "es", WithHTTP("e"), WithHTTP("f"), WithBus("default"), sink)),
			after:  all(EventBus("a", "default"), EventSource("a", "es", WithCron("f"), WithBus("default"), sink)),
			want: `
EventBus a/default
openfunction.a.es.f of EventBus a/default to http://sink
retired openfunction.a.es.e of EventBus a/default`,
		},
		{
			name:   "what has a problem that may pass goes on as it was",
			before: all(EventBus("a", "default"), EventSource("a", "es", WithHTTP("e"), WithBus("default"), sink), EventSource("a", "direct", WithHTTP("e"), sink)),
			after: all(EventBus("a", "default"),
				EventSource("a", "es", WithHTTP("e"), WithBus("default"), WithSink(Service("", "missing"))),
				EventSource("a", "direct", WithHTTP("e"), WithSink(Service("", "missing")))),
			want: `
EventBus a/default
/a/direct/e to http://sink
/a/es/e to EventBus a/default
openfunction.a.es.e of EventBus a/default to http://sink`,
		},
		{
			name:   "but not what is not declared any more",
			before: all(EventBus("a", "default"), EventSource("a", "es", WithHTTP("e"), WithHTTP("f"), WithBus("default"), sink)),
			after:  all(EventBus("a", "default"), EventSource("a", "es", WithHTTP("e"), WithBus("default"), WithSink(Service("", "missing")))),
			want: `
EventBus a/default
/a/es/e to EventBus a/default
openfunction.a.es.e of EventBus a/default to http://sink
retired openfunction.a.es.f of EventBus a/default`,
		},
		{
			name:   "a bus whose Secret is missing goes on as it was, if it is used",
			before: all(EventBus("a", "used"), EventBus("a", "unused"), EventSource("a", "es", WithHTTP("e"), WithBus("used"))),
			after:  all(EventBus("a", "used", WithToken("missing")), EventBus("a", "unused", WithToken("missing")), EventSource("a", "es", WithHTTP("e"), WithBus("used"))),
			want: `
EventBus a/used
/a/es/e to EventBus a/used`,
		},
		{
			name:   "a bus that is gone goes on for those who use it",
			before: all(EventBus("a", "used"), EventSource("a", "es", WithHTTP("e"), WithBus("used"))),
			after:  all(EventSource("a", "es", WithHTTP("e"), WithBus("used"))),
			want: `
EventBus a/used
/a/es/e to EventBus a/used`,
		},
		{
			name:  "what cannot be read just now goes on as it was, and the others do not wait for it",
			there: all(Secret("a", "s")),
			before: all(EventBus("a", "default", WithToken("s")), ClusterEventBus("default"),
				EventSource("a", "es", WithHTTP("e"), WithHTTP("g"), WithBus("default"), sink), EventSource("b", "es", WithHTTP("e"))),
			after: all(EventBus("a", "default", WithToken("s")), ClusterEventBus("default"),
				EventSource("a", "es", WithHTTP("e"), WithHTTP("f"), WithBus("default"), sink), EventSource("b", "es", WithHTTP("f"))),
			fails: true,
			want: `
ClusterEventBus default
EventBus a/default t0ken
/a/es/e to EventBus a/default
/b/es/f to ClusterEventBus default
openfunction.a.es.e of EventBus a/default to http://sink
retired openfunction.a.es.g of EventBus a/default`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.there...)
			w.become(nil, tt.before)
			if pass := w.reconcile(); pass.Err != nil {
				t.Fatal(pass.Err)
			}
			w.become(tt.before, tt.after)
			if tt.fails {
				kubeclient.Get(w.Ctx).PrependReactor("get", "secrets", func(a clientgotesting.Action) (bool, runtime.Object, error) {
					return a.GetNamespace() != system.Namespace(), nil, errors.New("connection refused")
				})
			}
			if pass := w.reconcile(); (pass.Err != nil) != tt.fails {
				t.Errorf("Reconcile = %v, want an error: %v", pass.Err, tt.fails)
			}
			if diff := cmp.Diff(w.plan(), strings.TrimPrefix(tt.want, "\n")); diff != "" {
				t.Errorf("plan (-got +want):\n%s", diff)
			}
			if pass := w.reconcile(); pass.Writes != nil {
				t.Errorf("the next pass writes %v, want nothing", pass.Writes)
			}
		})
	}
}

// TestTheGatewayKnowsWhatWaits has a route answer that its event comes, and why it does not run yet.
func TestTheGatewayKnowsWhatWaits(t *testing.T) {
	es := EventSource("a", "es", WithBus("b"), WithHTTP("e"), WithCron("tick"))
	w := newWorld(t, es)
	w.reconcile()
	want := []plan.Source{{Namespace: "a", EventSource: "es", Event: "e", Kind: plan.KindHTTP, Why: "there is no EventBus b"}}
	if diff := cmp.Diff(want, w.Plan(key().Namespace, key().Name).WaitingSources); diff != "" {
		t.Errorf("what waits (-want, +got):\n%s", diff)
	}
	if pass := w.reconcile(); pass.Writes != nil {
		t.Errorf("another pass writes %q", pass.Writes)
	}
	w.become(nil, []runtime.Object{EventBus("a", "b")})
	w.reconcile()
	if p := w.Plan(key().Namespace, key().Name); p.Waits() || len(p.Sources) != 1 {
		t.Errorf("with the bus, the plan is %v, want it to run the event", p)
	}
	w.become([]runtime.Object{EventBus("a", "b"), es}, nil)
	w.reconcile()
	if p := w.Plan(key().Namespace, key().Name); p.Waits() {
		t.Errorf("without the EventSource, %v waits", p.WaitingSources)
	}
}

func TestWhenToLookAgain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		objects []runtime.Object
		want    string
	}{
		{"all is well", []runtime.Object{EventBus("a", "default"), EventSource("a", "es", WithHTTP("e"))}, "later"},
		{"a bus lacks its Secret", []runtime.Object{EventBus("a", "default", WithToken("s"))}, "later"}, // when it comes
		{"an EventSource lacks its sink", []runtime.Object{EventSource("a", "es", WithHTTP("e"), WithSink(Service("", "missing")))}, "soon"},
		{"a bus lacks its servers", []runtime.Object{EventBus("a", "default", Embedded)}, "later"}, // when they are made
		{"only an edit helps", []runtime.Object{EventBus("a", "default", WithURL(""))}, "later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.objects...)
			if pass := w.reconcile(); pass.Again != tt.want || pass.Err != nil {
				t.Errorf("again %s, error %v, want %s", pass.Again, pass.Err, tt.want)
			}
		})
	}
}

func TestADeletedSecretComesBack(t *testing.T) {
	w := newWorld(t, EventBus("a", "default"), EventSource("a", "es", WithHTTP("e")))
	w.reconcile()
	want := w.plan()
	if err := kubeclient.Get(w.Ctx).CoreV1().Secrets(key().Namespace).Delete(w.Ctx, key().Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Sync()
	if pass := w.reconcile(); pass.Err != nil {
		t.Fatal(pass.Err)
	}
	if diff := cmp.Diff(w.plan(), want); diff != "" {
		t.Errorf("plan (-got +want):\n%s", diff)
	}
}

// TestAPlanThatDoesNotFit leaves out whoever has grown most, and nobody else.
func TestAPlanThatDoesNotFit(t *testing.T) {
	noise := make([]byte, corev1.MaxSecretSize) // which gzip does not make smaller
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	filled := func(n int) *v1alpha1.Sink { return URI("http://" + hex.EncodeToString(noise[:n])) }
	huge := EventSource("a", "huge", WithHTTP("e"), WithHTTP("f"), WithSink(filled(len(noise)/2)))
	large := EventSource("b", "large", WithHTTP("e"), WithSink(filled(len(noise)/4)))
	small, smaller := EventSource("c", "small", WithHTTP("e"), WithHTTP("f"), WithSink(URI("http://sink"))), EventSource("c", "small", WithHTTP("e"), WithSink(URI("http://sink")))
	before := EventSource("a", "huge", WithHTTP("e"), WithHTTP("g"), WithSink(URI("http://sink")))
	bus, hugeBus := EventBus("d", "b"), EventBus("d", "c", WithURL("nats://"+hex.EncodeToString(noise)+":4222"))
	onHuge := EventSource("d", "es", WithHTTP("e"), WithBus("c"))

	w := newWorld(t, before, small, bus)
	w.reconcile()
	w.become([]runtime.Object{before, small}, []runtime.Object{huge, large, smaller, hugeBus, onHuge})
	for i, events := range []int{1, 0} { // it is told once
		pass := w.reconcile()
		if pass.Err != nil || pass.Again != "later" {
			t.Errorf("Reconcile = %v, again %s; want it to look again later", pass.Err, pass.Again)
		}
		if len(pass.Events) != events || events > 0 && (!strings.HasPrefix(pass.Events[0], "Warning PlanTooLarge ") ||
			!strings.Contains(pass.Events[0], "of EventBus d/c, EventSource a/huge, EventSource d/es goes on")) {
			t.Errorf("pass %d tells %q, want %d events of the reason PlanTooLarge", i, pass.Events, events)
		}
		if i > 0 && pass.Writes != nil {
			t.Errorf("pass %d writes %q", i, pass.Writes)
		}
	}
	const want = `EventBus d/b
/a/huge/e to http://sink
/b/large/e to http://
/c/small/e to http://sink`
	if diff := cmp.Diff(want, strings.ReplaceAll(w.plan(), hex.EncodeToString(noise[:len(noise)/4]), "")); diff != "" {
		t.Errorf("plan (-want, +got):\n%s", diff)
	}
	w.become([]runtime.Object{hugeBus, huge}, []runtime.Object{EventBus("d", "c"), before})
	if pass := w.reconcile(); pass.Err != nil {
		t.Fatal(pass.Err)
	}
	if got := w.plan(); !strings.Contains(got, "/d/es/e to EventBus d/c") || !strings.Contains(got, "/a/huge/g") {
		t.Errorf("plan = %s, want all once it fits", got)
	}
}

func TestOnlyTheLeaderWrites(t *testing.T) {
	w := newWorld(t)
	if err := w.Reconciler.Reconcile(w.Ctx, key().String()); !controller.IsSkipKey(err) {
		t.Errorf("Reconcile = %v, want the key to be skipped", err)
	}
	_, err := kubeclient.Get(w.Ctx).CoreV1().Secrets(key().Namespace).Get(w.Ctx, key().Name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the Secret, read with error %v, was written", err)
	}
	if err := w.Reconciler.(pkgreconciler.LeaderAware).Promote(pkgreconciler.UniversalBucket(), w.MaybeEnqueueBucketKey); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.WorkQueue().Get(); got != key() {
		t.Errorf("a new leader reconciles %v, want %v", got, key())
	}
}

// TestEachSecretIsReadOnceInAPass, if it is needed here at all, and in every pass again.
func TestEachSecretIsReadOnceInAPass(t *testing.T) {
	var objects []runtime.Object
	for i := range 4 {
		ns := fmt.Sprintf("ns-%d", i)
		objects = append(objects, Secret(ns, "s"), EventBus(ns, "default", WithToken("s")),
			Secret(ns, "elsewhere"), EventSource(ns, "kafka", WithKafka("k", "elsewhere"), WithBus("default")))
		for j := range 10 {
			objects = append(objects, EventSource(ns, fmt.Sprintf("es-%d", j), WithHTTP("e"), WithBus("default")))
		}
	}
	w := newWorld(t, objects...)
	w.reconcile()
	kube := kubeclient.Get(w.Ctx)
	s, err := kube.CoreV1().Secrets("ns-3").Get(w.Ctx, "s", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s = s.DeepCopy()
	s.Data["token"] = []byte("other")
	if _, err := kube.CoreV1().Secrets("ns-3").Update(w.Ctx, s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if pass := w.reconcile(); pass.Err != nil {
		t.Fatal(pass.Err)
	}
	reads := 0
	for _, a := range kube.Actions() {
		if a.Matches("get", "secrets") {
			reads++
		}
	}
	if reads != 4 {
		t.Errorf("%d Secrets are read, want 4", reads)
	}
	if got, want := w.plan(), "EventBus ns-3/default other"; !strings.Contains(got, want) {
		t.Errorf("plan after a Secret has changed: %s, want %s", got, want)
	}
}

func TestWhatIsWatched(t *testing.T) {
	settings := &configmap.ManualWatcher{}
	w := newWorldOf(t, settings)
	stop := make(chan struct{})
	wait, err := controller.RunInformers(stop, eventsource.Get(w.Ctx).Informer(), eventbus.Get(w.Ctx).Informer(),
		clustereventbus.Get(w.Ctx).Informer(), secret.Get(w.Ctx, "app.kubernetes.io/name=openfunction-events").Informer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(stop); wait() })
	events, kube := eventsclient.Get(w.Ctx).EventsV1alpha1(), kubeclient.Get(w.Ctx).CoreV1()
	wantReconciled := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := w.WorkQueue().Get()
		if got != key() {
			t.Errorf("%v is reconciled, want %v", got, key())
		}
		w.WorkQueue().Done(got)
	}
	wantReconciled(events.EventBuses("a").Create(w.Ctx, EventBus("a", "b"), metav1.CreateOptions{}))
	wantReconciled(events.ClusterEventBuses().Create(w.Ctx, ClusterEventBus("b"), metav1.CreateOptions{}))
	wantReconciled(events.EventSources("a").Create(w.Ctx, EventSource("a", "es"), metav1.CreateOptions{}))
	wantReconciled(nil, events.EventSources("a").Delete(w.Ctx, "es", metav1.DeleteOptions{}))
	wantReconciled(kube.Secrets(key().Namespace).Create(w.Ctx, Secret(key().Namespace, key().Name), metav1.CreateOptions{}))
	wantReconciled(nil, kube.Secrets(key().Namespace).Delete(w.Ctx, key().Name, metav1.DeleteOptions{}))
	es := EventSource("a", "es", WithSink(Service("", "svc")))
	if err := w.Tracker.TrackReference(tracker.Reference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Namespace: "a", Name: "svc"}, es); err != nil {
		t.Fatal(err)
	}
	w.Tracker.OnChanged(Addressable("a", "svc", ""))
	wantReconciled(nil, nil)
	settings.OnChange(Settings("delivery.retry", "3"))
	wantReconciled(nil, nil)
}

func TestSpecChanged(t *testing.T) {
	calls := 0
	h := specChanged(func(any) { calls++ })
	before := EventSource("a", "es")
	status, spec := before.DeepCopy(), before.DeepCopy()
	status.Status.SetConditions(nil)
	spec.Generation++
	for _, tt := range []struct {
		name string
		do   func()
		want int
	}{
		{"comes", func() { h.OnAdd(before, false) }, 1},
		{"gets another status", func() { h.OnUpdate(before, status) }, 0},
		{"gets another spec", func() { h.OnUpdate(before, spec) }, 1},
		{"goes", func() { h.OnDelete(before) }, 1},
	} {
		calls = 0
		if tt.do(); calls != tt.want {
			t.Errorf("an EventSource that %s: %d calls, want %d", tt.name, calls, tt.want)
		}
	}
}
