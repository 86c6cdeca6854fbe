package workload

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgotesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

var accept = flag.Bool("update", false, "rewrite the golden files of testdata")

var children = []string{"serviceaccounts", "roles", "rolebindings", "secrets", "deployments"}

// TestChildren wants the children that the golden files show, except for the plan.
func TestChildren(t *testing.T) {
	eventSource := load()
	eventSource.Owner = &v1alpha1.EventSource{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: strings.Repeat("long-", 14) + "es", UID: "2"}}
	eventSource.Name = "eventsource-" + strings.Repeat("long-", 14) + "es-cron-tick"
	eventSource.Component, eventSource.LogLevel = "eventsource", ""
	eventSource.Plan.Sources = []plan.Source{{Namespace: "d", EventSource: "es", Event: "tick", Kind: "cron", Cron: &plan.Cron{Schedule: "@daily"}}}

	alone := load("1")
	alone.Plan.Buses[0] = plan.Bus{Name: "EventBus d/b", NATSStreaming: &plan.NATSStreaming{URL: "nats://b", ClusterID: "stan"}}
	for file, load := range map[string]Workload{"trigger.yaml": load("1"), "eventsource.yaml": eventSource, "alone.yaml": alone} {
		t.Run(file, func(t *testing.T) {
			w := newWorld(t)
			state, writes := w.apply(load)
			if want := (State{Reason: ReasonStarting, Message: "no pod yet"}); state != want {
				t.Errorf("state = %+v, want %+v", state, want)
			}
			if diff := gocmp.Diff(writes, verbs("create", children...)); diff != "" {
				t.Errorf("writes (-got +want):\n%s", diff)
			}
			if diff := gocmp.Diff(w.stored("d", Name(load.Name)), load.Plan); diff != "" {
				t.Errorf("plan (-got +want):\n%s", diff)
			}
			var got []string
			all := w.all()
			for _, resource := range children {
				for _, o := range all[resource] {
					if s, ok := o.(*corev1.Secret); ok {
						s.Data[plan.SecretKey] = []byte("plan")
					}
					text, err := yaml.Marshal(o)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(text))
				}
			}
			golden(t, file, strings.Join(got, "---\n"))
		})
	}
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
	if diff := gocmp.Diff(got, string(want)); diff != "" {
		t.Errorf("children (-got +want; -update accepts it):\n%s", diff)
	}
}

// settle does to a child what the API server and others do in a cluster: defaults, status, and their own marks.
func settle(o metav1.Object) {
	o.SetUID("some")
	o.SetGeneration(1)
	o.SetAnnotations(map[string]string{"somebody": "else"})
	o.GetLabels()["somebody"] = "else"
	switch o := o.(type) {
	case *corev1.ServiceAccount:
		o.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	case *appsv1.Deployment:
		o.Annotations["deployment.kubernetes.io/revision"] = "1"
		o.Status.ReadyReplicas = 1
		o.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "2020-02-02T02:02:02Z", annotationAccount: "some"}
		pod := &o.Spec.Template.Spec
		pod.RestartPolicy = corev1.RestartPolicyAlways
		pod.DNSPolicy = corev1.DNSClusterFirst
		pod.SchedulerName = corev1.DefaultSchedulerName
		pod.NodeSelector = map[string]string{"disk": "ssd"}
		pod.Containers = append([]corev1.Container{{Name: "sidecar"}}, pod.Containers...)
		pod.Volumes = append([]corev1.Volume{{Name: "sidecar"}}, pod.Volumes...)
	}
}

// settled is a world in which load is applied, and was seen, and has settled.
func settled(t *testing.T, load Workload) *world {
	t.Helper()
	w := applied(t, load)
	w.change(children, settle)
	return w
}

// change changes what there is of the resources.
func (w *world) change(resources []string, change func(metav1.Object)) {
	w.t.Helper()
	all := w.all()
	for _, r := range resources {
		for _, o := range all[r] {
			change(o)
			gvr := schema.GroupVersionResource{Version: "v1", Resource: r}
			switch o.(type) {
			case *appsv1.Deployment:
				gvr.Group = appsv1.GroupName
			case *rbacv1.Role, *rbacv1.RoleBinding:
				gvr.Group = rbacv1.GroupName
			}
			if err := w.kube.Tracker().Update(gvr, o.(runtime.Object), o.GetNamespace()); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.sync()
}

func TestApplyWritesWhatDiffers(t *testing.T) {
	tests := []struct {
		name   string
		change func(w *world, l *Workload)
		want   []string
	}{
		{"nothing when nothing changed", func(*world, *Workload) {}, nil},
		{"another plan", func(_ *world, l *Workload) { l.Plan.Subscribers[0].Condition = "!e" }, verbs("update", "secrets")},
		{"nothing when the plan was compressed otherwise", func(w *world, l *Workload) {
			w.change([]string{"secrets"}, func(o metav1.Object) {
				l := *l.Plan
				data, err := plan.Encode(&l)
				if err != nil {
					w.t.Fatal(err)
				}
				data[9] = 3 // the operating system, in the header of gzip
				o.(*corev1.Secret).Data[plan.SecretKey] = data
			})
		}, nil},
		{"a plan that cannot be read", func(w *world, _ *Workload) {
			w.change([]string{"secrets"}, func(o metav1.Object) { o.(*corev1.Secret).Data = nil })
		}, verbs("update", "secrets")},
		{"another log level", func(_ *world, l *Workload) { l.LogLevel = "error" }, verbs("update", "deployments")},
		{"another image", func(w *world, _ *Workload) { w.clients.Image = "gateway:v2" }, verbs("update", "deployments")},
		{"replicas that somebody else set", func(w *world, _ *Workload) { w.replicas(3) }, verbs("update", "deployments")},
		{"nothing about replicas when something else scales", func(w *world, l *Workload) {
			w.replicas(3)
			l.Scaled = true
		}, nil},
		{"rights that somebody else added", func(w *world, _ *Workload) {
			w.change([]string{"roles"}, func(o metav1.Object) { o.(*rbacv1.Role).Rules[0].ResourceNames = nil })
		}, verbs("update", "roles")},
		{"subjects that somebody else removed", func(w *world, _ *Workload) {
			w.change([]string{"rolebindings"}, func(o metav1.Object) { o.(*rbacv1.RoleBinding).Subjects = nil })
		}, verbs("update", "rolebindings")},
		{"a token that somebody else allowed", func(w *world, _ *Workload) {
			w.change([]string{"serviceaccounts"}, func(o metav1.Object) { o.(*corev1.ServiceAccount).AutomountServiceAccountToken = nil })
		}, verbs("update", "serviceaccounts")},
		{"children that somebody deleted", func(w *world, _ *Workload) {
			for _, o := range w.all()["secrets"] {
				if err := w.kube.CoreV1().Secrets("d").Delete(w.t.Context(), o.GetName(), metav1.DeleteOptions{}); err != nil {
					w.t.Fatal(err)
				}
			}
			w.sync()
			w.kube.ClearActions()
		}, verbs("create", "secrets")},
		{"a ServiceAccount that was deleted and made again, so that the pods' tokens are void", func(w *world, _ *Workload) {
			w.change([]string{"serviceaccounts"}, func(o metav1.Object) { o.SetUID("other") })
		}, verbs("update", "deployments")},
		{"labels that somebody removed, so that listers do not see the child", func(w *world, _ *Workload) {
			w.change([]string{"secrets"}, func(o metav1.Object) { o.SetLabels(nil) })
		}, []string{"create secrets", "update secrets"}},
		{"nothing but in vain when no lister knows yet", func(w *world, _ *Workload) {
			for _, i := range w.indexers {
				_ = i.Replace(nil, "")
			}
		}, verbs("create", children...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := load("1")
			w := settled(t, l)
			tt.change(w, &l)
			_, got := w.apply(l)
			if diff := gocmp.Diff(got, tt.want); diff != "" {
				t.Errorf("writes (-got +want):\n%s", diff)
			}
			w.sync()
			if _, again := w.apply(l); again != nil {
				t.Errorf("then it wrote again: %v", again)
			}
		})
	}
}

func (w *world) replicas(n int32) {
	w.change([]string{"deployments"}, func(o metav1.Object) { o.(*appsv1.Deployment).Spec.Replicas = &n })
}

// TestAlone: a durable subscription of the type topic belongs to one client id, as does a session of MQTT, so that is always the same, and of
// one pod at a time.
func TestAlone(t *testing.T) {
	stan := func(queue bool) plan.Bus {
		return plan.Bus{Name: "EventBus d/b", NATSStreaming: &plan.NATSStreaming{URL: "nats://b", ClusterID: "stan", Queue: queue}}
	}
	for _, tt := range []struct {
		name  string
		plan  func(p *plan.Plan)
		alone bool
	}{
		{"another kind of bus", func(*plan.Plan) {}, false},
		{"a queue group", func(p *plan.Plan) { p.Buses[0] = stan(true) }, false},
		{"a subscription of the type topic", func(p *plan.Plan) { p.Buses[0] = stan(false) }, true},
		{"nothing but publications", func(p *plan.Plan) {
			p.Buses[0], p.Subscribers = stan(false), nil
			p.Sources = []plan.Source{{Namespace: "d", EventSource: "es", Event: "tick", Kind: "cron", Bus: "EventBus d/b", Cron: &plan.Cron{Schedule: "@daily"}}}
		}, false},
		{"an MQTT source", func(p *plan.Plan) {
			p.Sources = []plan.Source{{Namespace: "d", EventSource: "es", Event: "m", Kind: "mqtt", Bus: "EventBus d/b", MQTT: &plan.MQTT{Group: "g"}}}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := load("1")
			l.Scaled = true
			tt.plan(l.Plan)
			w := settled(t, l)
			w.replicas(3)
			w.apply(l)
			d := w.all()["deployments"][0].(*appsv1.Deployment)
			instance := slices.Contains(d.Spec.Template.Spec.Containers[1].Env, corev1.EnvVar{Name: "INSTANCE", Value: "d/trigger-t"})
			recreated, one := d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType, *d.Spec.Replicas == 1
			if recreated != tt.alone || one != tt.alone || instance != tt.alone {
				t.Errorf("recreated: %t, one replica: %t, always the same instance: %t; want it alone: %t", recreated, one, instance, tt.alone)
			}
		})
	}
	t.Run("until the subscription is removed", func(t *testing.T) {
		l := load("1")
		l.Plan.Buses[0] = stan(false)
		w := settled(t, l)
		next := load("2")
		next.Plan.Buses[0].Name, next.Plan.Subscribers[0].Bus = "EventBus d/c", "EventBus d/c"
		w.apply(next)
		if d := w.all()["deployments"][0].(*appsv1.Deployment); d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			t.Error("another pod is to remove the subscription, which does not belong to it")
		}
	})
}

func TestApplyLeavesWhatOthersAdd(t *testing.T) {
	l := load("1")
	w := settled(t, l)
	before := w.all()["deployments"][0].(*appsv1.Deployment)
	w.clients.Image = "gateway:v2"
	w.apply(l)
	after := w.all()["deployments"][0].(*appsv1.Deployment)
	before.Spec.Template.Spec.Containers[1].Image = "gateway:v2"
	if diff := gocmp.Diff(after, before); diff != "" {
		t.Errorf("more than the image changed (-after +before):\n%s", diff)
	}
}

// A child that somebody else writes at the same time is read again.
func TestApplyAfterAConflict(t *testing.T) {
	l := load("1")
	for conflicts, ok := range map[int]bool{1: true, 2: true, 3: false} {
		w := settled(t, l)
		n := 0
		w.kube.PrependReactor("update", "deployments", func(clientgotesting.Action) (bool, runtime.Object, error) {
			n++
			return n <= conflicts, nil, apierrors.NewConflict(schema.GroupResource{}, "trigger-t", errors.New("it was written"))
		})
		w.clients.Image = "gateway:v2"
		if _, err := w.clients.Apply(t.Context(), l); apierrors.IsConflict(err) == ok {
			t.Errorf("after %d conflicts: %v, want success %t", conflicts, err, ok)
		}
	}
}

func TestApplyTouchesNothingOfOthers(t *testing.T) {
	stranger := metav1.ObjectMeta{Namespace: "d", Name: "trigger-t"}
	before := stranger // this one was ours, before its owner was made again
	before.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "t", UID: "0"}, owner().GetGroupVersionKind())}
	before.Labels = map[string]string{labelName: product}
	for i, o := range []runtime.Object{
		&corev1.ServiceAccount{ObjectMeta: stranger},
		&rbacv1.Role{ObjectMeta: stranger},
		&rbacv1.RoleBinding{ObjectMeta: before},
		&corev1.Secret{ObjectMeta: stranger},
		&appsv1.Deployment{ObjectMeta: before},
	} {
		w := newWorld(t, o)
		got, _ := w.apply(load("1"))
		kind := []string{"ServiceAccount", "Role", "RoleBinding", "Secret", "Deployment"}[i]
		want := State{
			Reason:  ReasonNotOwned,
			Message: kind + " d/trigger-t is in the way: it does not belong to this Trigger; delete it, or give the Trigger another name",
		}
		if len(o.(metav1.Object).GetOwnerReferences()) > 0 {
			want = State{Reason: ReasonPredecessorLeaves, Message: kind + " d/trigger-t of the Trigger of this name before is being removed"}
		}
		if got != want {
			t.Errorf("state = %+v, want %+v", got, want)
		}
		if diff := gocmp.Diff(any(w.all()[children[i]][0]), any(o)); diff != "" {
			t.Errorf("%s changed (-after +before):\n%s", kind, diff)
		}
		if got := len(w.all()["deployments"]); kind != "Deployment" && got > 0 {
			t.Errorf("there is a Deployment without its %s", kind)
		}
	}
}

func TestApplyWhenRefused(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want State
	}{
		{
			"a quota is told", apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "trigger-t", errors.New("exceeded quota")),
			State{Reason: ReasonRefused, Message: `create Secret d/trigger-t: secrets "trigger-t" is forbidden: exceeded quota`},
		},
		{
			"what is invalid is told", apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, "trigger-t", nil),
			State{Reason: ReasonRefused, Message: `create Secret d/trigger-t: Secret "trigger-t" is invalid`},
		},
		{"an API server that is away is an error", apierrors.NewServiceUnavailable("later"), State{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.kube.PrependReactor("create", "secrets", func(clientgotesting.Action) (bool, runtime.Object, error) { return true, nil, tt.err })
			got, err := w.clients.Apply(t.Context(), load("1"))
			if got != tt.want || errors.Is(err, tt.err) != (tt.want == State{}) {
				t.Errorf("state = %+v (%v), want %+v", got, err, tt.want)
			}
		})
	}
}

func TestApplyOfAPlanThatIsTooLarge(t *testing.T) {
	w := applied(t, load("1"))
	got, writes := w.apply(tooLarge())
	want := State{Reason: ReasonTooLarge, Message: "the plan of Secret d/trigger-t takes more than the 1048576 bytes that a Secret can hold, " +
		"so the one before goes on: use fewer or shorter CACerts, conditions and events"}
	if got != want || writes != nil {
		t.Errorf("state = %+v, want %+v (wrote %v)", got, want, writes)
	}
	if diff := gocmp.Diff(ids(w.stored("d", "trigger-t")), [2][]string{{"1"}}); diff != "" {
		t.Errorf("subscribers and retired (-got +want):\n%s", diff)
	}
}

func TestName(t *testing.T) {
	long := Name("trigger", strings.Repeat("a.b", 80))
	if other := Name("trigger", strings.Repeat("a.b", 80)+"c"); len(long) > 63 || long == other {
		t.Errorf("names = %s and %s, want two of at most 63", long, other)
	}
	if got := Name(long); got != long {
		t.Errorf("Name(%s) = %s, want the same", long, got)
	}
	if got, want := Name("eventsource", "es", "kafka", "e"), "eventsource-es-kafka-e"; got != want {
		t.Errorf("Name = %s, want %s", got, want)
	}
}
