// Package testing builds objects, and worlds of fake clients, listers and gateways around them, for the tests of reconcilers.
package testing

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	metadataclient "k8s.io/client-go/metadata/fake"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"knative.dev/pkg/client/injection/ducks/duck/v1/addressable"
	_ "knative.dev/pkg/client/injection/ducks/duck/v1/addressable/fake" // The informers of whatever events are sent to.
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	deployments "knative.dev/pkg/client/injection/kube/informers/apps/v1/deployment/filtered/fake"
	statefulsets "knative.dev/pkg/client/injection/kube/informers/apps/v1/statefulset/filtered/fake"
	pods "knative.dev/pkg/client/injection/kube/informers/core/v1/pod/filtered/fake"
	secrets "knative.dev/pkg/client/injection/kube/informers/core/v1/secret/filtered/fake"
	services "knative.dev/pkg/client/injection/kube/informers/core/v1/service/filtered/fake"
	serviceaccounts "knative.dev/pkg/client/injection/kube/informers/core/v1/serviceaccount/filtered/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/factory/filtered/fake" // The informers above.
	budgets "knative.dev/pkg/client/injection/kube/informers/policy/v1/poddisruptionbudget/filtered/fake"
	roles "knative.dev/pkg/client/injection/kube/informers/rbac/v1/role/filtered/fake"
	rolebindings "knative.dev/pkg/client/injection/kube/informers/rbac/v1/rolebinding/filtered/fake"
	"knative.dev/pkg/controller"
	dynamicclient "knative.dev/pkg/injection/clients/dynamicclient/fake"
	"knative.dev/pkg/logging"
	pkgreconciler "knative.dev/pkg/reconciler"
	rt "knative.dev/pkg/reconciler/testing"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	eventsscheme "github.com/openfunction/events/pkg/client/clientset/versioned/scheme"
	eventsclient "github.com/openfunction/events/pkg/client/injection/client/fake"
	clustereventbuses "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus/fake"
	eventbuses "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus/fake"
	eventsources "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource/fake"
	triggers "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger/fake"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// selector is what the controller sees of Kubernetes' own kinds.
const selector = "app.kubernetes.io/name=openfunction-events"

// dynamic are the kinds that the dynamic client can list. The API server knows nothing of the first.
var dynamic = []schema.GroupVersionKind{
	{Group: "gone.example.com", Version: "v1", Kind: "Nowhere"},
	{Version: "v1", Kind: "Service"},
	{Group: "serving.knative.dev", Version: "v1", Kind: "Service"},
	{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"},
	{Group: "dapr.io", Version: "v1alpha1", Kind: "Component"},
	{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"},
}

// World is an API server of fake clients, with listers that see what is in it whenever Sync was called.
type World struct {
	// Ctx has the clients and informers. The informers do not run.
	Ctx context.Context
	// Gateways are the pods that Start and StartShared add.
	Gateways *Gateways

	t         testing.TB
	recorder  *record.FakeRecorder
	logs      *observer.ObservedLogs
	informers []controller.Informer
	metadata  *metadataclient.FakeMetadataClient // has the Secrets that Create added
	followed  chan struct{}                      // closed when what is added to it is told
}

// NewWorld returns one with the objects: those of this API, those of Kubernetes, and unstructured ones for the dynamic client. It sets
// environment variables.
func NewWorld(t *testing.T, objects ...runtime.Object) *World {
	t.Helper()
	t.Setenv("GATEWAY_IMAGE", "gateway:test")
	t.Setenv("BUS_IMAGE", "bus:test")
	ctx, informers := rt.SetupFakeContext(t, workload.WithSelectors)
	var unstructureds []runtime.Object
	for _, o := range objects {
		if u, ok := o.(*unstructured.Unstructured); ok {
			unstructureds = append(unstructureds, u.DeepCopy())
		} else if err := add(ctx, o.DeepCopyObject()); err != nil {
			t.Fatal(err)
		}
	}
	core, logs := observer.New(zapcore.DebugLevel)
	ctx = logging.WithLogger(ctx, logging.FromContext(ctx).WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) })))
	ctx, client := dynamicclient.With(ctx, scheme(), unstructureds...)
	client.PrependReactor("list", "nowheres", func(clientgotesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewGenericServerResponse(http.StatusNotFound, "list", schema.GroupResource{}, "", "", 0, true)
	})
	w := &World{
		t:         t,
		informers: informers,
		logs:      logs,
		recorder:  controller.GetEventRecorder(ctx).(*record.FakeRecorder),
	}
	w.Ctx = w.withSecrets(addressable.WithDuck(ctx))
	w.Gateways = newGateways(t, w)
	w.Sync()
	return w
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, kind := range dynamic {
		s.AddKnownTypeWithName(kind, &unstructured.Unstructured{})
		kind.Kind += "List"
		s.AddKnownTypeWithName(kind, &unstructured.UnstructuredList{})
	}
	return s
}

// withSecrets returns a context whose Readers are told of the Secrets that Create adds while the informers run.
func (w *World) withSecrets(ctx context.Context) context.Context {
	s := metadataclient.NewTestScheme()
	_ = metav1.AddMetaToScheme(s) // which it is made for
	w.metadata, w.followed = metadataclient.NewSimpleMetadataClient(s), make(chan struct{})
	begun := sync.OnceFunc(func() { close(w.followed) })
	w.metadata.PrependWatchReactor("*", func(a clientgotesting.Action) (bool, watch.Interface, error) {
		defer begun()
		all, err := w.metadata.Tracker().Watch(a.GetResource(), a.GetNamespace())
		return true, all, err
	})
	ctx, informer := objects.WithSecrets(ctx, w.metadata)
	w.informers = append(w.informers, informer)
	return ctx
}

// Run runs the informers until the test ends.
func (w *World) Run() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.Ctx)
	wait, err := rt.RunAndSyncInformers(ctx, w.informers...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cancel(); wait() })
	<-w.followed
}

// Next is the next key that impl is to look at.
func (w *World) Next(impl *controller.Impl) string {
	w.t.Helper()
	key := make(chan any, 1)
	go func() {
		k, _ := impl.WorkQueue().Get()
		impl.WorkQueue().Done(k)
		key <- k
	}()
	select {
	case k := <-key:
		return fmt.Sprint(k)
	case <-time.After(10 * time.Second):
		w.t.Fatal("there is no key for ten seconds")
		return ""
	}
}

// Sync makes the listers see what the clients see.
func (w *World) Sync() {
	w.t.Helper()
	ctx, kube, events := w.Ctx, kubeclient.Get(w.Ctx), eventsclient.Get(w.Ctx).EventsV1alpha1()
	ours := metav1.ListOptions{LabelSelector: selector}
	w.fill(deployments.Get(ctx, selector).Informer(), must(kube.AppsV1().Deployments("").List(ctx, ours)))
	w.fill(statefulsets.Get(ctx, selector).Informer(), must(kube.AppsV1().StatefulSets("").List(ctx, ours)))
	w.fill(services.Get(ctx, selector).Informer(), must(kube.CoreV1().Services("").List(ctx, ours)))
	w.fill(budgets.Get(ctx, selector).Informer(), must(kube.PolicyV1().PodDisruptionBudgets("").List(ctx, ours)))
	w.fill(secrets.Get(ctx, selector).Informer(), must(kube.CoreV1().Secrets("").List(ctx, ours)))
	w.fill(serviceaccounts.Get(ctx, selector).Informer(), must(kube.CoreV1().ServiceAccounts("").List(ctx, ours)))
	w.fill(roles.Get(ctx, selector).Informer(), must(kube.RbacV1().Roles("").List(ctx, ours)))
	w.fill(rolebindings.Get(ctx, selector).Informer(), must(kube.RbacV1().RoleBindings("").List(ctx, ours)))
	w.fill(pods.Get(ctx, selector).Informer(), must(kube.CoreV1().Pods("").List(ctx, ours)))
	all := metav1.ListOptions{}
	w.fill(eventsources.Get(ctx).Informer(), must(events.EventSources("").List(ctx, all)))
	w.fill(triggers.Get(ctx).Informer(), must(events.Triggers("").List(ctx, all)))
	w.fill(eventbuses.Get(ctx).Informer(), must(events.EventBuses("").List(ctx, all)))
	w.fill(clustereventbuses.Get(ctx).Informer(), must(events.ClusterEventBuses().List(ctx, all)))
}

// must is for fake clients, which have no reason to fail.
func must[T runtime.Object](list T, err error) runtime.Object {
	if err != nil {
		panic(err)
	}
	return list
}

func (w *World) fill(informer cache.SharedIndexInformer, list runtime.Object) {
	w.t.Helper()
	objects, err := extract(list)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := informer.GetIndexer().Replace(objects, ""); err != nil {
		w.t.Fatal(err)
	}
}

// Pass is what a reconciler did with one key.
type Pass struct {
	// Writes has one line for each object name, in the order of the first write: "create NAME: RESOURCE ...", and so on.
	Writes []string
	// Events are the Kubernetes Events.
	Events []string
	// Again is when it wants to look at the key again: never, soon, within four seconds, or later, within a minute.
	Again string
	Err   error
}

func again(after time.Duration) string {
	switch {
	case after > 0 && after <= 4*time.Second:
		return "soon"
	case after >= 30*time.Second && after <= time.Minute:
		return "later"
	}
	return after.String()
}

// Reconcile calls r, as the leader, for key, and syncs. It fails the test if the value of a Secret shows anywhere but in a Secret.
func (w *World) Reconcile(r controller.Reconciler, key string) Pass {
	w.t.Helper()
	if err := r.(pkgreconciler.LeaderAware).Promote(pkgreconciler.UniversalBucket(), func(pkgreconciler.Bucket, types.NamespacedName) {}); err != nil {
		w.t.Fatal(err)
	}
	kubeclient.Get(w.Ctx).ClearActions()
	eventsclient.Get(w.Ctx).ClearActions()
	dynamicclient.Get(w.Ctx).ClearActions()
	p := Pass{Again: "never"}
	err := r.Reconcile(w.Ctx, key)
	if requeued, after := controller.IsRequeueKey(err); requeued {
		p.Again = again(after)
	} else {
		p.Err = err
	}
	actions := slices.Concat(kubeclient.Get(w.Ctx).Actions(), dynamicclient.Get(w.Ctx).Actions(), eventsclient.Get(w.Ctx).Actions())
	p.Writes = writes(actions)
	for {
		select {
		case e := <-w.recorder.Events:
			p.Events = append(p.Events, e)
			continue
		default:
		}
		break
	}
	for _, leak := range leaks(actions, p, w.logs.TakeAll()) {
		w.t.Errorf("it shows the value of a Secret: %s", leak)
	}
	w.Sync()
	return p
}

// writes sums up what is not read.
func writes(actions []clientgotesting.Action) []string {
	var lines []string
	at := map[string]int{}
	for _, a := range actions {
		name := ""
		switch a := a.(type) {
		case clientgotesting.CreateActionImpl:
			name = a.Object.(metav1.Object).GetName()
		case clientgotesting.UpdateActionImpl:
			name = a.Object.(metav1.Object).GetName()
		case clientgotesting.DeleteActionImpl:
			name = a.Name
		case clientgotesting.PatchActionImpl:
			name = a.Name
		default:
			continue
		}
		resource := a.GetResource().Resource
		if a.GetSubresource() != "" {
			resource += "/" + a.GetSubresource()
		}
		begin := a.GetVerb() + " " + name + ":"
		if i, ok := at[begin]; ok {
			lines[i] += " " + resource
			continue
		}
		at[begin] = len(lines)
		lines = append(lines, begin+" "+resource)
	}
	return lines
}

func extract(list runtime.Object) ([]any, error) {
	objects, err := meta.ExtractList(list)
	all := make([]any, len(objects))
	for i, o := range objects {
		all[i] = o
	}
	return all, err
}

// Create adds an object of this API or one of Kubernetes.
func (w *World) Create(o runtime.Object) {
	w.t.Helper()
	if err := add(w.Ctx, o.DeepCopyObject()); err != nil {
		w.t.Fatal(err)
	}
	if secret, ok := o.(*corev1.Secret); ok {
		m := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: *secret.ObjectMeta.DeepCopy()}
		if err := w.metadata.Tracker().Add(m); err != nil {
			w.t.Fatal(err)
		}
	}
}

func add(ctx context.Context, o runtime.Object) error {
	if kinds, _, err := eventsscheme.Scheme.ObjectKinds(o); err == nil && kinds[0].Group == v1alpha1.SchemeGroupVersion.Group {
		return eventsclient.Get(ctx).Tracker().Add(o)
	}
	return kubeclient.Get(ctx).Tracker().Add(o)
}
