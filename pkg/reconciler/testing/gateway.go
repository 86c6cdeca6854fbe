package testing

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	"knative.dev/pkg/system"
	_ "knative.dev/pkg/system/testing" // The system's namespace.
	"knative.dev/pkg/tracker"

	eventsclient "github.com/openfunction/events/pkg/client/injection/client/fake"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// Gateways are the pods of a world: each reports that it runs what its Secret holds. They are safe for concurrent use.
type Gateways struct {
	// Port is where they answer, each at an address of its own.
	Port int

	world    *World
	mu       sync.Mutex
	secrets  map[string]types.NamespacedName // by the address of the pod
	problems map[string][]string
}

func newGateways(t testing.TB, w *World) *Gateways {
	t.Helper()
	g := &Gateways{world: w, secrets: map[string]types.NamespacedName{}, problems: map[string][]string{}}
	listener, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(g.answer))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	g.Port, _ = strconv.Atoi(port)
	return g
}

func (g *Gateways) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	host, _, _ := net.SplitHostPort(r.Host)
	secret, err := kubeclient.Get(g.world.Ctx).CoreV1().Secrets(g.secrets[host].Namespace).Get(r.Context(), g.secrets[host].Name, metav1.GetOptions{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	p, err := plan.Decode(secret.Data[plan.SecretKey])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	report := plan.Report{Objects: map[string]plan.ObjectReport{}}
	for object, hash := range p.Hashes() {
		report.Objects[object] = plan.ObjectReport{Hash: hash, Problems: g.problems[object]}
	}
	_ = json.NewEncoder(w).Encode(report) // whoever asks sees that it is cut off
}

// Problem makes the gateways report problems of an object, or none.
func (g *Gateways) Problem(object string, problems ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.problems[object] = problems
}

// Ask returns what asks the gateways, and has not asked anything before.
func (g *Gateways) Ask() *workload.Reports {
	r := workload.NewReports()
	r.Port = g.Port
	return r
}

// Start gives each Deployment that has none a ready pod, and syncs.
func (w *World) Start() {
	w.t.Helper()
	all, err := kubeclient.Get(w.Ctx).AppsV1().Deployments("").List(w.Ctx, metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range all.Items {
		w.pod(d.Namespace, d.Name, d.Spec.Template.Labels)
	}
	w.Sync()
}

// StartShared gives the shared gateway a ready pod and the plan that the EventSources of the world ask for, and syncs.
func (w *World) StartShared() {
	w.t.Helper()
	r := objects.NewReader(w.Ctx, tracker.New(func(types.NamespacedName) {}, 0))
	all, err := eventsclient.Get(w.Ctx).EventsV1alpha1().EventSources("").List(w.Ctx, metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	p := &plan.Plan{}
	for i := range all.Items {
		c, err := r.EventSource(w.Ctx, &all.Items[i])
		if err != nil {
			w.t.Fatal(err)
		}
		_, shared := objects.Split(&all.Items[i], c.Plan)
		p.Buses = append(p.Buses, shared.Buses...)
		p.Sources = append(p.Sources, shared.Sources...)
		p.Subscribers = append(p.Subscribers, shared.Subscribers...)
	}
	data, err := plan.Encode(p)
	if err != nil {
		w.t.Fatal(err)
	}
	labels := map[string]string{"app.kubernetes.io/name": "openfunction-events", "app.kubernetes.io/component": "gateway"}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system.Namespace(), Name: workload.SharedSecret, Labels: labels},
		Data:       map[string][]byte{plan.SecretKey: data},
	}
	if err := kubeclient.Get(w.Ctx).Tracker().Add(secret); err != nil {
		w.t.Fatal(err)
	}
	w.pod(secret.Namespace, secret.Name, labels)
	w.Sync()
}

// pod adds a ready pod that runs the plan of the Secret of its name, unless there is one.
func (w *World) pod(namespace, name string, labels map[string]string) {
	w.t.Helper()
	g := w.Gateways
	g.mu.Lock()
	defer g.mu.Unlock()
	ip := fmt.Sprintf("127.0.0.%d", 2+len(g.secrets))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + "-" + name), Labels: labels},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			PodIP:      ip,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	_, err := kubeclient.Get(w.Ctx).CoreV1().Pods(namespace).Create(w.Ctx, pod, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	g.secrets[ip] = types.NamespacedName{Namespace: namespace, Name: name}
}

// Plan is what the workload of a name runs.
func (w *World) Plan(namespace, name string) *plan.Plan {
	w.t.Helper()
	secret, err := kubeclient.Get(w.Ctx).CoreV1().Secrets(namespace).Get(w.Ctx, name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := plan.Decode(secret.Data[plan.SecretKey])
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}
