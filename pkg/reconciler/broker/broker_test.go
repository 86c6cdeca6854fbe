package broker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgotesting "k8s.io/client-go/testing"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/system"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/broker"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

var accept = flag.Bool("update", false, "rewrite the golden files of testdata")

// three makes the bus one of three servers, with all that can be said of them.
func three(spec *v1alpha1.EventBusSpec, status *v1alpha1.EventBusStatus) {
	Embedded(spec, status)
	storage := resource.MustParse("10Gi")
	*spec.Embedded = v1alpha1.EmbeddedSpec{
		Replicas: new(int32(3)), Storage: &storage, StorageClassName: new("fast"), SyncInterval: "always", MaxBytes: new(int64(1 << 20)), TopicRetention: new("P30D"),
	}
}

// applied is what a test looks at after Apply.
type applied struct {
	state  workload.State
	writes []string
}

func apply(t *testing.T, w *World, bus kmeta.OwnerRefable, spec *v1alpha1.EmbeddedSpec) applied {
	t.Helper()
	w.Sync()
	kube := kubeclient.Get(w.Ctx)
	kube.ClearActions()
	state, err := broker.NewClients(w.Ctx).Apply(w.Ctx, bus, spec)
	if err != nil {
		t.Fatal(err)
	}
	a := applied{state: state}
	for _, action := range kube.Actions() {
		if verb := action.GetVerb(); verb != "get" && verb != "list" && verb != "watch" {
			a.writes = append(a.writes, verb+" "+action.GetNamespace()+" "+action.GetResource().Resource)
		}
	}
	w.Sync()
	return a
}

// TestChildren wants the children that the golden files show, and no second write.
func TestChildren(t *testing.T) {
	eb, ceb := EventBus("shop", "b", Embedded), ClusterEventBus("b", three)
	for _, tt := range []struct {
		file   string
		bus    kmeta.OwnerRefable
		spec   *v1alpha1.EmbeddedSpec
		ns     string
		name   string
		writes []string
	}{
		{"one.yaml", eb, eb.Spec.Embedded, "shop", "eventbus-b",
			[]string{"create shop secrets", "create shop services", "create shop statefulsets"}},
		{"three.yaml", ceb, ceb.Spec.Embedded, system.Namespace(), "clustereventbus-b",
			[]string{"create knative-testing secrets", "create knative-testing services", "create knative-testing poddisruptionbudgets", "create knative-testing statefulsets"}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			w := NewWorld(t)
			a := apply(t, w, tt.bus, tt.spec)
			if diff := cmp.Diff(a.writes, tt.writes); diff != "" {
				t.Errorf("writes (-got +want):\n%s", diff)
			}
			if a := apply(t, w, tt.bus, tt.spec); a.writes != nil {
				t.Errorf("the second time it writes %q, want nothing", a.writes)
			}
			golden(t, tt.file, children(t, w, tt.ns, tt.name))
			t.Setenv("IMAGE_PULL_SECRETS", "registry")
			for _, want := range [][]string{{"update " + tt.ns + " statefulsets"}, nil} {
				if a := apply(t, w, tt.bus, tt.spec); !cmp.Equal(a.writes, want) {
					t.Errorf("with pull secrets it writes %q, want %q", a.writes, want)
				}
			}
			set, err := kubeclient.Get(w.Ctx).AppsV1().StatefulSets(tt.ns).Get(w.Ctx, tt.name, metav1.GetOptions{})
			if err != nil || !cmp.Equal(set.Spec.Template.Spec.ImagePullSecrets, []corev1.LocalObjectReference{{Name: "registry"}}) {
				t.Errorf("servers are pulled with %v (%v), want registry", set.Spec.Template.Spec.ImagePullSecrets, err)
			}
		})
	}
}

// children are what Apply made, without what is random.
func children(t *testing.T, w *World, ns, name string) string {
	t.Helper()
	kube := kubeclient.Get(w.Ctx)
	var all strings.Builder
	show := func(o any, err error) {
		if apierrors.IsNotFound(err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "---\n%s", text)
	}
	secret, err := kube.CoreV1().Secrets(ns).Get(w.Ctx, name, metav1.GetOptions{})
	if err == nil {
		for key := range secret.Data {
			secret.Data[key] = nil
		}
	}
	show(secret, err)
	show(kube.CoreV1().Services(ns).Get(w.Ctx, name, metav1.GetOptions{}))
	show(kube.PolicyV1().PodDisruptionBudgets(ns).Get(w.Ctx, name, metav1.GetOptions{}))
	show(kube.AppsV1().StatefulSets(ns).Get(w.Ctx, name, metav1.GetOptions{}))
	return all.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *accept {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, string(want)); diff != "" {
		t.Errorf("children (-got +want; -update accepts it):\n%s", diff)
	}
}

// TestChanges wants what can change to change, the volumes to stay as they are, and others' marks to stay.
func TestChanges(t *testing.T) {
	b := EventBus("shop", "b", Embedded)
	w := NewWorld(t)
	apply(t, w, b, b.Spec.Embedded)
	sets := kubeclient.Get(w.Ctx).AppsV1().StatefulSets("shop")
	set, err := sets.Get(w.Ctx, "eventbus-b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	set.Labels["somebody"], set.Spec.Template.Spec.SchedulerName = "else", "default-scheduler"
	one := int32(0)
	set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &one}
	set.Spec.Template.Spec.Containers = append(set.Spec.Template.Spec.Containers, corev1.Container{Name: "sidecar"})
	if _, err := sets.Update(w.Ctx, set, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if a := apply(t, w, b, b.Spec.Embedded); a.writes != nil {
		t.Errorf("with others' marks it writes %q, want nothing", a.writes)
	}
	storage := resource.MustParse("2Gi") // which admission refuses
	b.Spec.Embedded.SyncInterval, b.Spec.Embedded.Storage = "100ms", &storage
	if diff := cmp.Diff(apply(t, w, b, b.Spec.Embedded).writes, []string{"update shop statefulsets"}); diff != "" {
		t.Errorf("writes (-got +want):\n%s", diff)
	}
	changed, err := sets.Get(w.Ctx, "eventbus-b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changed.Spec.VolumeClaimTemplates, set.Spec.VolumeClaimTemplates); diff != "" {
		t.Errorf("volume claims (-got +want):\n%s", diff)
	}
	if text := fmt.Sprint(changed.Spec.Template.Spec.Containers[0].Env); !strings.Contains(text, "SYNC_INTERVAL 100ms") {
		t.Errorf("environment is %s, want the new interval", text)
	}
	if err := kubeclient.Get(w.Ctx).CoreV1().Services("shop").Delete(w.Ctx, "eventbus-b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(apply(t, w, b, b.Spec.Embedded).writes, []string{"create shop services"}); diff != "" {
		t.Errorf("writes after somebody deleted the Service (-got +want):\n%s", diff)
	}
}

// pod is one of a set's.
func pod(set *appsv1.StatefulSet, name string, ready bool, status ...corev1.ContainerStatus) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: set.Namespace, Name: name, Labels: set.Spec.Template.Labels}}
	p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}
	p.Status.ContainerStatuses = status
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func noPod(name string) string {
	return "there is no pod " + name + " yet; if it does not come, see kubectl -n shop describe statefulset eventbus-b"
}

func TestState(t *testing.T) {
	b := EventBus("shop", "b", three)
	crashed := corev1.ContainerStatus{
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "bus: no space left on device"}},
	}
	pending := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "unbound PersistentVolumeClaims"}
	for _, tt := range []struct {
		name string
		pods func(set *appsv1.StatefulSet) []*corev1.Pod
		want workload.State
	}{
		{"no pods", func(*appsv1.StatefulSet) []*corev1.Pod { return nil },
			workload.State{Reason: "Starting", Message: "0 of 3 servers are ready: " + noPod("eventbus-b-0")}},
		{"one is starting", func(s *appsv1.StatefulSet) []*corev1.Pod {
			return []*corev1.Pod{pod(s, "eventbus-b-0", true), pod(s, "eventbus-b-1", false), pod(s, "eventbus-b-2", true)}
		}, workload.State{Reason: "Starting", Message: "2 of 3 servers are ready: pod eventbus-b-1 is not ready yet"}},
		{"one cannot start", func(s *appsv1.StatefulSet) []*corev1.Pod {
			return []*corev1.Pod{pod(s, "eventbus-b-0", true), pod(s, "eventbus-b-1", false, crashed), pod(s, "eventbus-b-2", true)}
		}, workload.State{Reason: "NotRunning", Message: "2 of 3 servers are ready: pod eventbus-b-1: CrashLoopBackOff: Error with code 1: bus: no space left on device"}},
		{"there is no volume for one", func(s *appsv1.StatefulSet) []*corev1.Pod {
			p := pod(s, "eventbus-b-0", false)
			p.Status.Conditions = append(p.Status.Conditions, pending)
			return []*corev1.Pod{p}
		}, workload.State{Reason: "NotRunning", Message: "0 of 3 servers are ready: pod eventbus-b-0: Unschedulable: unbound PersistentVolumeClaims"}},
		{"somebody else's pod does not count", func(s *appsv1.StatefulSet) []*corev1.Pod {
			p := pod(s, "eventbus-b-2", true)
			p.OwnerReferences = nil
			return []*corev1.Pod{pod(s, "eventbus-b-0", true), pod(s, "eventbus-b-1", true), p}
		}, workload.State{Reason: "Starting", Message: "2 of 3 servers are ready: " + noPod("eventbus-b-2")}},
		{"all are ready", func(s *appsv1.StatefulSet) []*corev1.Pod {
			return []*corev1.Pod{pod(s, "eventbus-b-0", true), pod(s, "eventbus-b-1", true), pod(s, "eventbus-b-2", true)}
		}, workload.State{Ready: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t)
			apply(t, w, b, b.Spec.Embedded)
			sets := kubeclient.Get(w.Ctx).AppsV1().StatefulSets("shop")
			set, err := sets.Get(w.Ctx, "eventbus-b", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			set.UID = "set"
			if _, err := sets.Update(w.Ctx, set, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, p := range tt.pods(set) {
				w.Create(p)
			}
			if diff := cmp.Diff(apply(t, w, b, b.Spec.Embedded).state, tt.want); diff != "" {
				t.Errorf("state (-got +want):\n%s", diff)
			}
		})
	}
}

func TestWhatAPersonHasToCure(t *testing.T) {
	b := EventBus("shop", "b", Embedded)
	w := NewWorld(t, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "eventbus-b"}})
	want := workload.State{Reason: workload.ReasonNotOwned,
		Message: "Service shop/eventbus-b is in the way: it does not belong to this EventBus; delete it, or give the EventBus another name"}
	if diff := cmp.Diff(apply(t, w, b, b.Spec.Embedded).state, want); diff != "" {
		t.Errorf("state when there is another Service (-got +want):\n%s", diff)
	}

	w = NewWorld(t)
	kubeclient.Get(w.Ctx).PrependReactor("create", "statefulsets", func(clientgotesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "statefulsets"}, "eventbus-b", errors.New("exceeded quota"))
	})
	want = workload.State{Reason: workload.ReasonRefused,
		Message: `create StatefulSet shop/eventbus-b: statefulsets "eventbus-b" is forbidden: exceeded quota`}
	if diff := cmp.Diff(apply(t, w, b, b.Spec.Embedded).state, want); diff != "" {
		t.Errorf("state when a quota is exceeded (-got +want):\n%s", diff)
	}

	kubeclient.Get(w.Ctx).PrependReactor("create", "statefulsets", InduceFailure)
	if _, err := broker.NewClients(w.Ctx).Apply(w.Ctx, b, b.Spec.Embedded); err == nil {
		t.Error("no error while the API server cannot do it")
	}
}

// TestMadeAgain makes the servers of a bus that was deleted and made again, while Kubernetes removes those of the one before.
func TestMadeAgain(t *testing.T) {
	before, b, ceb := EventBus("shop", "b", Embedded), EventBus("shop", "b", Embedded), ClusterEventBus("b", Embedded)
	before.UID, b.UID = "before", "after"
	for _, tt := range []struct {
		name  string
		owner kmeta.OwnerRefable
		want  workload.State
	}{
		{"that of the bus before", before,
			workload.State{Reason: workload.ReasonPredecessorLeaves, Message: "Service shop/eventbus-b of the EventBus of this name before is being removed"}},
		{"that of another kind", ceb, workload.State{Reason: workload.ReasonNotOwned,
			Message: "Service shop/eventbus-b is in the way: it does not belong to this EventBus; delete it, or give the EventBus another name"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "eventbus-b", OwnerReferences: []metav1.OwnerReference{*kmeta.NewControllerRef(tt.owner)},
			}}
			w := NewWorld(t, service)
			a := apply(t, w, b, b.Spec.Embedded)
			if diff := cmp.Diff(a.state, tt.want); diff != "" {
				t.Errorf("state (-got +want):\n%s", diff)
			}
			if err := kubeclient.Get(w.Ctx).CoreV1().Services("shop").Delete(w.Ctx, "eventbus-b", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if a := apply(t, w, b, b.Spec.Embedded); a.state.Reason != broker.ReasonStarting {
				t.Errorf("state once it is gone: %+v, want that servers start", a.state)
			}
		})
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, tt := range []struct {
		kind, namespace, name string
		want                  broker.Place
	}{
		{"EventBus", "shop", "default", broker.Place{Namespace: "shop", Name: "eventbus-default"}},
		{"ClusterEventBus", "", "default", broker.Place{Namespace: system.Namespace(), Name: "clustereventbus-default"}},
		{"EventBus", "shop", long, broker.Place{Namespace: "shop", Name: "eventbus-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-59f5c3e6"}},
	} {
		got := broker.PlaceOf(tt.kind, tt.namespace, tt.name)
		if got != tt.want || len(got.Name) > 52 {
			t.Errorf("PlaceOf(%s, %s, %s) = %v, want %v", tt.kind, tt.namespace, tt.name, got, tt.want)
		}
	}
	if a, b := broker.PlaceOf("EventBus", "shop", long), broker.PlaceOf("EventBus", "shop", long[:62]+"y"); a == b {
		t.Errorf("two buses have the name %s", a.Name)
	}
}

func TestConnect(t *testing.T) {
	ceb := ClusterEventBus("b", three)
	place := broker.PlaceOf("ClusterEventBus", "", "b")
	got, err := place.Connect(ceb.Spec.Embedded, Servers("", "x").Data)
	if err != nil {
		t.Fatal(err)
	}
	const domain = "clustereventbus-b.knative-testing.svc:4222"
	want := &plan.JetStream{
		NATSAccess: plan.NATSAccess{Username: "user", Password: "hunter2", TLS: &plan.TLS{CACerts: "CA"}},
		URL:        "tls://clustereventbus-b-0." + domain + ",tls://clustereventbus-b-1." + domain + ",tls://clustereventbus-b-2." + domain,
		Replicas:   3, MaxBytes: 1 << 20, TopicRetention: 30 * 24 * time.Hour, AckWait: 10 * time.Second, MaxInFlight: 256,
	}
	if *got.TLS != *want.TLS {
		t.Errorf("TLS = %v, want %v", got.TLS, want.TLS)
	}
	got.TLS, want.TLS = nil, nil
	if *got != *want {
		t.Errorf("Connect() = %v, want %v", got, want)
	}
	*ceb.Spec.Embedded.MaxBytes = 1 << 50
	if got, err := place.Connect(ceb.Spec.Embedded, Servers("", "x").Data); err != nil || got.MaxBytes != 0 {
		t.Errorf("MaxBytes = %d (%v), want none: the servers have a smaller bound, for everything", got.MaxBytes, err)
	}
	for want, data := range map[string]map[string][]byte{
		"its servers are not made yet": nil,
		"the Secret knative-testing/clustereventbus-b of its servers has no key username yet": {},
	} {
		if _, err := place.Connect(ceb.Spec.Embedded, data); err == nil || err.Error() != want {
			t.Errorf("Connect() = %v, want %s", err, want)
		}
	}
}

// nothing reconciles nothing.
type nothing struct{}

func (nothing) Reconcile(context.Context, string) error { return nil }

// TestWatch wants a bus in the queue whose server comes or whose Secret goes, and not one of another kind.
func TestWatch(t *testing.T) {
	for kind, want := range map[string]string{"EventBus": "shop/b", "ClusterEventBus": "/c"} {
		t.Run(kind, func(t *testing.T) {
			w := NewWorld(t)
			impl := controller.NewContext(w.Ctx, nothing{}, controller.ControllerOptions{WorkQueueName: "test", Logger: logging.FromContext(w.Ctx)})
			broker.Watch(w.Ctx, kind, impl)
			w.Run()
			eb, ceb := EventBus("shop", "b", Embedded), ClusterEventBus("c", Embedded)
			clients := broker.NewClients(w.Ctx)
			for range 2 { // which makes the first ones and then looks at them again
				for _, b := range []struct {
					kmeta.OwnerRefable
					spec *v1alpha1.EmbeddedSpec
				}{{eb, eb.Spec.Embedded}, {ceb, ceb.Spec.Embedded}} {
					if _, err := clients.Apply(w.Ctx, b, b.spec); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := w.Next(impl); got != want {
				t.Errorf("queued is %s, want %s", got, want)
			}
			place := broker.PlaceOf(kind, "shop", want[len(want)-1:])
			if err := kubeclient.Get(w.Ctx).CoreV1().Secrets(place.Namespace).Delete(w.Ctx, place.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := w.Next(impl); got != want {
				t.Errorf("after a Secret went, queued is %s, want %s", got, want)
			}
		})
	}
}

func TestNewClientsNeedsAnImage(t *testing.T) {
	w := NewWorld(t)
	if err := os.Unsetenv("BUS_IMAGE"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("there are clients without an image")
		}
	}()
	broker.NewClients(w.Ctx)
}
