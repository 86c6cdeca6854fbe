package workload

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	appsv1listers "k8s.io/client-go/listers/apps/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	rbacv1listers "k8s.io/client-go/listers/rbac/v1"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

const systemNamespace = "openfunction"

// world is a cluster whose listers know what they were last told.
type world struct {
	t        *testing.T
	kube     *fake.Clientset
	clients  *Clients
	indexers map[string]cache.Indexer // by resource
	pods     int
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	t.Setenv("SYSTEM_NAMESPACE", systemNamespace)
	w := &world{t: t, kube: fake.NewClientset(objects...), indexers: map[string]cache.Indexer{}}
	for _, r := range []string{"deployments", "secrets", "serviceaccounts", "roles", "rolebindings", "pods"} {
		w.indexers[r] = cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		if err := w.indexers[r].AddIndexers(indexes()); err != nil {
			t.Fatal(err)
		}
	}
	w.clients = &Clients{
		Kube:            w.kube,
		Deployments:     appsv1listers.NewDeploymentLister(w.indexers["deployments"]),
		Secrets:         corev1listers.NewSecretLister(w.indexers["secrets"]),
		ServiceAccounts: corev1listers.NewServiceAccountLister(w.indexers["serviceaccounts"]),
		Roles:           rbacv1listers.NewRoleLister(w.indexers["roles"]),
		RoleBindings:    rbacv1listers.NewRoleBindingLister(w.indexers["rolebindings"]),
		Indexers:        w.indexers,
		Reports:         NewReports(),
		Image:           "gateway:v1",
	}
	w.sync()
	return w
}

// sync is what informers do: the listers know what is there and has our labels.
func (w *world) sync() {
	w.t.Helper()
	ours, err := labels.Parse(Selector)
	if err != nil {
		w.t.Fatal(err)
	}
	all := w.all()
	for resource, indexer := range w.indexers {
		var seen []any
		for _, o := range all[resource] {
			if ours.Matches(labels.Set(o.GetLabels())) {
				seen = append(seen, o)
			}
		}
		if err := indexer.Replace(seen, ""); err != nil {
			w.t.Fatal(err)
		}
	}
}

// all returns everything that there is, by resource.
func (w *world) all() map[string][]metav1.Object {
	w.t.Helper()
	core, all := w.kube.CoreV1(), map[string][]metav1.Object{}
	collect(w, all, "deployments")(w.kube.AppsV1().Deployments("").List(w.t.Context(), metav1.ListOptions{}))
	collect(w, all, "secrets")(core.Secrets("").List(w.t.Context(), metav1.ListOptions{}))
	collect(w, all, "serviceaccounts")(core.ServiceAccounts("").List(w.t.Context(), metav1.ListOptions{}))
	collect(w, all, "roles")(w.kube.RbacV1().Roles("").List(w.t.Context(), metav1.ListOptions{}))
	collect(w, all, "rolebindings")(w.kube.RbacV1().RoleBindings("").List(w.t.Context(), metav1.ListOptions{}))
	collect(w, all, "pods")(core.Pods("").List(w.t.Context(), metav1.ListOptions{}))
	w.kube.ClearActions()
	return all
}

func collect(w *world, all map[string][]metav1.Object, resource string) func(list runtime.Object, err error) {
	return func(list runtime.Object, err error) {
		if err != nil {
			w.t.Fatal(err)
		}
		err = meta.EachListItem(list, func(item runtime.Object) error {
			o := item.(metav1.Object)
			o.SetManagedFields(nil)
			all[resource] = append(all[resource], o)
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// apply applies, and returns the state and what was written.
func (w *world) apply(load Workload) (State, []string) {
	w.t.Helper()
	w.kube.ClearActions()
	s, err := w.clients.Apply(w.t.Context(), load)
	if err != nil {
		w.t.Fatal(err)
	}
	return s, w.writes()
}

// applied is a world in which load is applied already, and was seen.
func applied(t *testing.T, load Workload) *world {
	t.Helper()
	w := newWorld(t)
	w.apply(load)
	w.sync()
	return w
}

// writes returns what was written since it was last called.
func (w *world) writes() []string {
	var all []string
	for _, a := range w.kube.Actions() {
		switch a := a.(type) {
		case clientgotesting.CreateAction: // and UpdateAction, whose methods are the same
			all = append(all, a.GetVerb()+" "+a.GetResource().Resource)
		case clientgotesting.DeleteAction:
			all = append(all, a.GetVerb()+" "+a.GetResource().Resource+" "+a.GetName())
		}
	}
	w.kube.ClearActions()
	return all
}

// stored returns the plan in a Secret.
func (w *world) stored(namespace, name string) *plan.Plan {
	w.t.Helper()
	s, err := w.kube.CoreV1().Secrets(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return storedPlan(w.t.Context(), s)
}

// pod adds a pod with these labels, in which a gateway says this, if that is not nil. It is ready unless an option says otherwise.
func (w *world) pod(namespace string, labels map[string]string, report any, options ...func(*corev1.Pod)) {
	w.t.Helper()
	w.pods++
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("p%d", w.pods), UID: types.UID(strconv.Itoa(w.pods)), Labels: labels},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
		},
	}
	if report != nil {
		p.Status.PodIP = w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != plan.ReportPath {
				http.NotFound(rw, r)
				return
			}
			_ = json.NewEncoder(rw).Encode(report)
		}))
	}
	for _, option := range options {
		option(p)
	}
	if err := w.kube.Tracker().Add(p); err != nil {
		w.t.Fatal(err)
	}
	w.sync()
}

// serve returns the address of a server that has the port of all gateways.
func (w *world) serve(h http.Handler) string {
	w.t.Helper()
	port := 0
	if w.pods > 1 {
		port = w.clients.Reports.Port
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:%d", max(w.pods, 1), port))
	if err != nil {
		w.t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	s.Start()
	w.t.Cleanup(s.Close)
	addr := l.Addr().(*net.TCPAddr)
	w.clients.Reports.Port = addr.Port
	return addr.IP.String()
}

func notReady(p *corev1.Pod) { p.Status.Conditions = nil }

func terminating(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }

func failed(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }

// waiting makes the container of a pod one that does not run.
func waiting(reason, message string, last *corev1.ContainerStateTerminated) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		notReady(p)
		p.Status.Phase = corev1.PodPending
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
			LastTerminationState: corev1.ContainerState{Terminated: last},
		}}
	}
}

// owner is a Trigger.
func owner() *v1alpha1.Trigger {
	return &v1alpha1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "t", UID: "1"}}
}

// load is the workload of owner, with a subscriber for each id.
func load(ids ...string) Workload {
	p := &plan.Plan{Buses: []plan.Bus{{Name: "EventBus d/b", JetStream: &plan.JetStream{URL: "nats://b"}}}}
	for _, id := range ids {
		p.Subscribers = append(p.Subscribers, plan.Subscriber{
			ID: id, Trigger: "d/t", Bus: "EventBus d/b", Inputs: []plan.Input{{Name: "e", Topic: "d-es-e"}}, Condition: "e", Topic: id,
		})
	}
	return Workload{Owner: owner(), Name: "trigger-t", Component: "trigger", Plan: p, LogLevel: "debug"}
}

// tooLarge is a workload whose plan no Secret can hold.
func tooLarge() Workload {
	noise := make([]byte, 2*corev1.MaxSecretSize) // which gzip does not make smaller
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	l := load("1")
	l.Plan.Subscribers[0].Condition = hex.EncodeToString(noise)
	return l
}

// reportOf is that of a gateway that runs p, and has these problems.
func reportOf(p *plan.Plan, problems ...string) *plan.Report {
	r := &plan.Report{Objects: map[string]plan.ObjectReport{}}
	for object, hash := range p.Hashes() {
		r.Objects[object] = plan.ObjectReport{Hash: hash, Problems: problems}
	}
	return r
}

func verbs(verb string, resources ...string) []string {
	all := make([]string, len(resources))
	for i, r := range resources {
		all[i] = verb + " " + r
	}
	return all
}
