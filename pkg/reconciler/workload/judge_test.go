package workload

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openfunction/events/pkg/plan"
)

func TestState(t *testing.T) {
	l := load("1")
	labels := l.labels()
	good, old := reportOf(l.Plan), reportOf(load("0").Plan)
	broken := &plan.Report{Error: "subscriber 1: no such thing", Objects: old.Objects}
	ready := State{Ready: true}

	tests := []struct {
		name string
		pods func(w *world)
		want State
	}{
		{"no pod", func(*world) {}, State{Reason: ReasonStarting, Message: "no pod yet"}},
		{"no pod because of a quota", func(w *world) {
			w.condition(appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, "exceeded quota: pods")
		}, State{Reason: ReasonStarting, Message: "no pod: exceeded quota: pods"}},
		{"no pod for too long", func(w *world) {
			w.condition(appsv1.DeploymentProgressing, corev1.ConditionFalse, "it has timed out")
		}, State{Reason: ReasonStarting, Message: "no pod: it has timed out"}},
		{"no pod, and nothing wrong", func(w *world) {
			w.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "it is created")
		}, State{Reason: ReasonStarting, Message: "no pod yet"}},
		{"a pod that runs what it should", func(w *world) { w.pod("d", labels, good) }, ready},
		{"pods that do", func(w *world) {
			w.pod("d", labels, good)
			w.pod("d", labels, good)
		}, ready},
		{"one of another workload does not count", func(w *world) {
			w.pod("d", map[string]string{labelName: product, labelWorkload: "trigger-u"}, good)
			w.pod("other", labels, good)
		}, State{Reason: ReasonStarting, Message: "no pod yet"}},
		{"nor one that ends", func(w *world) { w.pod("d", labels, good, terminating, finalized) }, State{Reason: ReasonStarting, Message: "no pod yet"}},
		{"nor one that has ended", func(w *world) { w.pod("d", labels, good, failed) }, State{Reason: ReasonStarting, Message: "no pod yet"}},
		{"nor does one matter that is about to be ready beside one that is", func(w *world) {
			w.pod("d", labels, good)
			w.pod("d", labels, old, notReady)
		}, ready},
		{"a pod with the plan before", func(w *world) { w.pod("d", labels, old) }, State{Reason: ReasonApplying, Message: "the latest change is not applied yet"}},
		{"one of two pods with the plan before", func(w *world) {
			w.pod("d", labels, good)
			w.pod("d", labels, old)
		}, State{Reason: ReasonApplying, Message: "the latest change is not applied yet"}},
		{"a pod that runs nothing yet", func(w *world) { w.pod("d", labels, &plan.Report{}) }, State{Reason: ReasonApplying, Message: "the latest change is not applied yet"}},
		{"a plan that cannot be applied", func(w *world) { w.pod("d", labels, broken) }, State{Reason: ReasonNotApplied, Message: "subscriber 1: no such thing"}},
		{"a plan that cannot be applied, in a pod that is not ready", func(w *world) {
			w.pod("d", labels, broken, notReady)
		}, State{Reason: ReasonNotApplied, Message: "subscriber 1: no such thing"}},
		{"an error about an earlier plan than the one that runs", func(w *world) {
			w.pod("d", labels, &plan.Report{Error: "it was", Objects: good.Objects})
		}, ready},
		{"a problem", func(w *world) { w.pod("d", labels, reportOf(l.Plan, "dial b: refused")) }, State{Reason: ReasonUnreachable, Message: "dial b: refused"}},
		{"a target that takes nothing, in one of two pods", func(w *world) {
			failing := reportOf(l.Plan)
			for name, o := range failing.Objects {
				if strings.HasPrefix(name, "Trigger") {
					o.Failing = []string{"y", "read tcp 10.1.2.3:45678->10.0.0.1:80: connection reset by peer"}
					failing.Objects[name] = o
				}
			}
			w.pod("d", labels, good)
			w.pod("d", labels, failing)
		}, State{Ready: true, Failing: "read tcp 10.0.0.1:80: connection reset by peer; y"}},
		{"a problem that holds the port it was asked from, which is another one each time", func(w *world) {
			w.pod("d", labels, reportOf(l.Plan, "read tcp 10.1.2.3:45678->10.0.0.1:4222: connection reset by peer"))
		}, State{Reason: ReasonUnreachable, Message: "read tcp 10.0.0.1:4222: connection reset by peer"}},
		{"several problems, in a pod that is not ready because of them", func(w *world) {
			w.pod("d", labels, reportOf(l.Plan, "x is starting", "dial b: refused", "a is starting"), notReady)
		}, State{Reason: ReasonUnreachable, Message: "dial b: refused; and 2 more"}},
		{"what has just begun", func(w *world) {
			w.pod("d", labels, reportOf(l.Plan, "subscriber 1 is starting"))
		}, State{Reason: ReasonApplying, Message: "subscriber 1 is starting"}},
		{"what has just begun, in a pod that is not ready", func(w *world) {
			w.pod("d", labels, reportOf(l.Plan, "subscriber 1 is starting"), notReady)
		}, State{Reason: ReasonStarting, Message: "pod p1 is not ready yet"}},
		{"a pod that is to be probed", func(w *world) { w.pod("d", labels, good, notReady) }, State{Reason: ReasonStarting, Message: "pod p1 is not ready yet"}},
		{"a ready pod without an address", func(w *world) {
			w.pod("d", labels, nil)
		}, State{Reason: ReasonNoReport, Message: "pod p1 does not tell the controller what it runs: it has no address"}},
		{"a pod that is created", func(w *world) {
			w.pod("d", labels, nil, waiting("ContainerCreating", "", nil))
		}, State{Reason: ReasonStarting, Message: "pod p1 is not ready yet"}},
		{"an image that cannot be pulled", func(w *world) {
			w.pod("d", labels, nil, waiting("ImagePullBackOff", "no such image", nil))
		}, State{Reason: ReasonStarting, Message: "pod p1: ImagePullBackOff: no such image"}},
		{"a gateway that crashes", func(w *world) {
			w.pod("d", labels, nil, waiting("CrashLoopBackOff", "back-off 10s", &corev1.ContainerStateTerminated{
				Reason: "Error", ExitCode: 1, Message: "first\nPLAN_SECRET: no slash\n",
			}))
		}, State{Reason: ReasonStarting, Message: "pod p1: CrashLoopBackOff: Error with code 1: PLAN_SECRET: no slash"}},
		{"a gateway that was killed just now", func(w *world) {
			w.pod("d", labels, nil, notReady, func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}}
			})
		}, State{Reason: ReasonStarting, Message: "pod p1: OOMKilled with code 137"}},
		{"a pod that nobody has room for", func(w *world) {
			w.pod("d", labels, nil, notReady, func(p *corev1.Pod) {
				p.Status.ContainerStatuses = nil
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes"}}
			})
		}, State{Reason: ReasonStarting, Message: "pod p1: Unschedulable: 0/3 nodes"}},
		{"an init container of somebody else that fails", func(w *world) {
			w.pod("d", labels, nil, waiting("PodInitializing", "", nil), func(p *corev1.Pod) {
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{
					{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}},
					{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: strings.Repeat("é", 200)}}},
				}
			})
		}, State{Reason: ReasonStarting, Message: "pod p1: ErrImagePull: " + strings.Repeat("é", 150) + "..."}},
		{"the first pod that has something to say", func(w *world) {
			w.pod("d", labels, nil, waiting("ContainerCreating", "", nil))
			w.pod("d", labels, nil, waiting("ImagePullBackOff", "no such image", nil))
		}, State{Reason: ReasonStarting, Message: "pod p2: ImagePullBackOff: no such image"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := applied(t, l)
			tt.pods(w)
			got, writes := w.apply(l)
			got.Bus = BusState{} // see TestStateOfTheBus
			if got != tt.want || writes != nil {
				t.Errorf("state = %+v, want %+v (wrote %v)", got, tt.want, writes)
			}
		})
	}
}

func TestStateOfTheBus(t *testing.T) {
	l := load("1")
	good, away := reportOf(l.Plan), reportOf(l.Plan)
	away.Objects["EventBus d/b"] = plan.ObjectReport{Hash: good.Objects["EventBus d/b"].Hash, Problems: []string{"EventBus d/b: dial 10.0.0.1:4222: refused"}}
	starting := reportOf(l.Plan)
	starting.Objects["EventBus d/b"] = plan.ObjectReport{Hash: good.Objects["EventBus d/b"].Hash, Problems: []string{"EventBus d/b is starting"}}
	losing := reportOf(l.Plan)
	losing.Objects["EventBus d/b"] = plan.ObjectReport{Hash: good.Objects["EventBus d/b"].Hash, Losing: "stream s loses events"}
	full := reportOf(l.Plan)
	full.Objects["EventBus d/b"] = plan.ObjectReport{Hash: good.Objects["EventBus d/b"].Hash, Failing: []string{"EventBus d/b is full", "and more"}}
	other := load("1")
	other.Plan.Buses[0].JetStream.URL = "nats://elsewhere"
	for _, tt := range []struct {
		name string
		pods func(w *world)
		want BusState
	}{
		{"no pod", func(*world) {}, BusState{}},
		{"a pod that says nothing", func(w *world) { w.pod("d", l.labels(), nil) }, BusState{}},
		{"a pod on the bus as it was", func(w *world) { w.pod("d", l.labels(), reportOf(other.Plan)) }, BusState{}},
		{"a pod that is just connecting", func(w *world) { w.pod("d", l.labels(), starting) }, BusState{}},
		{"a pod that reaches it", func(w *world) { w.pod("d", l.labels(), good) }, BusState{Seen: true}},
		{"a pod that does not", func(w *world) { w.pod("d", l.labels(), away) },
			BusState{Seen: true, Problem: "EventBus d/b: dial 10.0.0.1:4222: refused"}},
		{"a pod that is not ready because it does not", func(w *world) { w.pod("d", l.labels(), away, notReady) },
			BusState{Seen: true, Problem: "EventBus d/b: dial 10.0.0.1:4222: refused"}},
		{"one of two does not", func(w *world) {
			w.pod("d", l.labels(), good)
			w.pod("d", l.labels(), away)
		}, BusState{Seen: true, Problem: "EventBus d/b: dial 10.0.0.1:4222: refused"}},
		{"a pod that is not ready does not matter beside one that is", func(w *world) {
			w.pod("d", l.labels(), good)
			w.pod("d", l.labels(), away, notReady)
		}, BusState{Seen: true}},
		{"one of two sees that it loses events", func(w *world) {
			w.pod("d", l.labels(), good)
			w.pod("d", l.labels(), losing)
		}, BusState{Seen: true, Losing: "stream s loses events"}},
		{"one of two sees that it is full", func(w *world) {
			w.pod("d", l.labels(), good)
			w.pod("d", l.labels(), full)
		}, BusState{Seen: true, Full: "EventBus d/b is full"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := applied(t, l)
			tt.pods(w)
			if got, _ := w.apply(l); got.Bus != tt.want {
				t.Errorf("bus = %+v, want %+v", got.Bus, tt.want)
			}
		})
	}
}

func finalized(p *corev1.Pod) { p.Finalizers = []string{"somebody/else"} }

func (w *world) condition(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, message string) {
	w.change([]string{"deployments"}, func(o metav1.Object) {
		o.(*appsv1.Deployment).Status.Conditions = []appsv1.DeploymentCondition{{Type: kind, Status: status, Message: message}}
	})
}

func TestStateWhenScaledToZero(t *testing.T) {
	l := load("1")
	for _, scaled := range []bool{true, false} {
		w := applied(t, l)
		w.replicas(0)
		l.Scaled = scaled
		if got, _ := w.apply(l); got.Ready != scaled {
			t.Errorf("scaled %t: state = %+v, want ready %t", scaled, got, scaled)
		}
	}
}

// The hash that counts is that of what was written, which keeps more than was asked for.
func TestStateOfWhatIsKept(t *testing.T) {
	l := load("1")
	w := applied(t, l)
	w.pod("d", l.labels(), reportOf(l.Plan))
	l.Plan = postponed("1")
	if got, _ := w.apply(l); !got.Ready {
		t.Errorf("state = %+v, want ready", got)
	}
}

// What a retired subscription waits for is nobody's problem.
func TestStateWithRetired(t *testing.T) {
	l := load("1")
	w := applied(t, load("1", "2"))
	report := reportOf(l.Plan)
	report.Objects["EventBus d/b"] = plan.ObjectReport{Hash: "x", Problems: []string{"away"}}
	w.pod("d", l.labels(), report)
	if got, _ := w.apply(l); !got.Ready {
		t.Errorf("state = %+v, want ready", got)
	}
}

// TestSharedPlanTooLarge: a plan that no Secret can hold leaves the one before, and whoever is missing there is told why.
func TestSharedPlanTooLarge(t *testing.T) {
	w := newWorld(t)
	l := load("1")
	if err := w.clients.SharedPlan(t.Context(), l.Plan); err != nil {
		t.Fatal(err)
	}
	w.sync()
	large := tooLarge()
	err := w.clients.SharedPlan(t.Context(), large.Plan)
	if _, ok := errors.AsType[*TooLargeError](err); !ok {
		t.Fatalf("SharedPlan = %v, want a TooLargeError", err)
	}
	w.sync()
	if diff := gocmp.Diff(ids(w.stored(systemNamespace, SharedSecret)), [2][]string{{"1"}}); diff != "" {
		t.Errorf("subscribers and retired (-got +want):\n%s", diff)
	}
	w.pod(systemNamespace, sharedPods, reportOf(l.Plan))
	hashes := l.Plan.Hashes()
	if got := w.clients.Shared(t.Context(), "Trigger d/t", hashes["Trigger d/t"]); !got.Ready {
		t.Errorf("state of what runs = %+v, want ready", got)
	}
	want := State{Reason: ReasonTooLarge, Message: (&TooLargeError{Namespace: systemNamespace, Name: SharedSecret}).Error()}
	if got := w.clients.Shared(t.Context(), "Trigger d/t", large.Plan.Hashes()["Trigger d/t"]); got != want {
		t.Errorf("state of what does not = %+v, want %+v", got, want)
	}
	if _ = w.clients.SharedPlan(t.Context(), large.Plan); len(w.writes()) > 0 {
		t.Error("the same once more is written again")
	}
	if err := w.clients.SharedPlan(t.Context(), load("2").Plan); err != nil {
		t.Fatal(err)
	}
	w.sync()
	if got := w.clients.Shared(t.Context(), "Trigger d/t", load("2").Plan.Hashes()["Trigger d/t"]); got.Reason != ReasonApplying {
		t.Errorf("state once a plan fits again = %+v, want %s", got, ReasonApplying)
	}
}

func TestShared(t *testing.T) {
	report := &plan.Report{Objects: map[string]plan.ObjectReport{
		"EventBus d/good": {Hash: "1"},
		"EventBus d/away": {Hash: "2", Problems: []string{"dial away: refused"}},
	}}
	none := State{Reason: ReasonGatewayNotReady, Message: "the shared gateway has no pod: look at Deployment openfunction/events-gateway"}
	applying := State{Reason: ReasonApplying, Message: "the latest change is not applied yet"}
	tests := []struct {
		name, object, hash string
		pods               func(w *world)
		want               State
	}{
		{"there is none", "EventBus d/good", "1", func(*world) {}, none},
		{"one elsewhere is not it", "EventBus d/good", "1", func(w *world) { w.pod("d", sharedPods, report) }, none},
		{"nor is the controller", "EventBus d/good", "1", func(w *world) {
			w.pod(systemNamespace, map[string]string{labelName: product, labelComponent: "controller"}, report)
		}, none},
		{"it is not ready", "EventBus d/good", "1", func(w *world) {
			w.pod(systemNamespace, sharedPods, report, notReady)
		}, State{Reason: ReasonGatewayNotReady, Message: "pod p1 is not ready yet"}},
		{"it runs the object", "EventBus d/good", "1", func(w *world) { w.pod(systemNamespace, sharedPods, report) }, State{Ready: true}},
		{"it runs another version", "EventBus d/good", "0", func(w *world) { w.pod(systemNamespace, sharedPods, report) }, applying},
		{"it does not know the object", "EventBus d/new", "0", func(w *world) { w.pod(systemNamespace, sharedPods, report) }, applying},
		{"it still runs the object", "EventBus d/good", "", func(w *world) { w.pod(systemNamespace, sharedPods, report) }, applying},
		{"it runs it no longer", "EventBus d/gone", "", func(w *world) { w.pod(systemNamespace, sharedPods, report) }, State{Ready: true}},
		{"it cannot reach it", "EventBus d/away", "2", func(w *world) {
			w.pod(systemNamespace, sharedPods, report)
		}, State{Reason: ReasonUnreachable, Message: "dial away: refused"}},
		{"one of two does not run it", "EventBus d/good", "1", func(w *world) {
			w.pod(systemNamespace, sharedPods, report)
			w.pod(systemNamespace, sharedPods, &plan.Report{Error: "cannot"})
		}, State{Reason: ReasonNotApplied, Message: "cannot"}},
		{"others' errors do not matter to what runs", "EventBus d/good", "1", func(w *world) {
			w.pod(systemNamespace, sharedPods, &plan.Report{Error: "cannot", Objects: report.Objects})
		}, State{Ready: true}},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%d %s", i, tt.name), func(t *testing.T) {
			w := newWorld(t)
			tt.pods(w)
			if got := w.clients.Shared(t.Context(), tt.object, tt.hash); got != tt.want {
				t.Errorf("state = %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestAGatewayThatIsLate wants what it said before to hold for a while, but not to be believed of what cannot be undone.
func TestAGatewayThatIsLate(t *testing.T) {
	l := load("1")
	w := applied(t, l)
	said := reportOf(l.Plan)
	said.Retired = []string{"0"}
	w.pod("d", l.labels(), said)
	now := time.Now()
	w.clients.Reports.now = func() time.Time { return now }
	removed := func() []string {
		pods, err := w.clients.pods("d", l.selector())
		if err != nil {
			t.Fatal(err)
		}
		return w.clients.removed(t.Context(), pods)
	}
	wants := func(want State) {
		t.Helper()
		got, _ := w.apply(l)
		got.Bus = BusState{}
		if got != want {
			t.Errorf("state = %+v, want %+v", got, want)
		}
	}
	wants(State{Ready: true})
	if got := removed(); len(got) != 1 {
		t.Errorf("removed are %v, want what the gateway says", got)
	}
	w.clients.Reports.Port = 1 // where nobody answers
	now = now.Add(time.Second)
	wants(State{Ready: true, Late: true})
	if got := removed(); got != nil {
		t.Errorf("removed are %v, want none: it may be used again since it said so", got)
	}
	w.change([]string{"pods"}, func(o metav1.Object) { notReady(o.(*corev1.Pod)) })
	wants(State{Reason: ReasonStarting, Message: "pod p1 is not ready yet"})
}
