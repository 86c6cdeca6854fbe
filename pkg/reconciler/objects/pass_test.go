package objects_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/controller"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/optional"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

func TestFinish(t *testing.T) {
	problem := func(reason string) []plan.Problem {
		return []plan.Problem{{Path: "spec", Message: "m", Reason: reason}}
	}
	for _, tt := range []struct {
		name     string
		ready    v1alpha1.Verdict
		age      time.Duration
		before   corev1.ConditionStatus
		problems []plan.Problem
		late     bool
		at, most time.Duration
		want     []string
	}{
		{"what is ready now", v1alpha1.Good(), 0, corev1.ConditionUnknown, nil, false, 30 * time.Second, time.Minute, []string{"Normal Ready events flow"}},
		{"what is ready since long", v1alpha1.Good(), time.Hour, corev1.ConditionTrue, nil, false, 30 * time.Second, time.Minute, nil},
		{"what is ready, as far as one knows", v1alpha1.Good(), time.Hour, corev1.ConditionTrue, nil, true, 4 * time.Second, 4 * time.Second, nil},
		{"what begins to wait", v1alpha1.Pending("Starting", "m"), 0, corev1.ConditionTrue, nil, false, 300 * time.Millisecond, 500 * time.Millisecond, []string{"Normal Starting m"}},
		{"what waits since some seconds", v1alpha1.Pending("Starting", "m"), 8 * time.Second, corev1.ConditionUnknown, nil, false, 2 * time.Second, 3 * time.Second, nil},
		{"what waits since long", v1alpha1.Pending("Starting", "m"), time.Hour, corev1.ConditionUnknown, nil, false, 4 * time.Second, 4 * time.Second, nil},
		{"a sink that no informer tells of", v1alpha1.Bad("SinkNotResolved", "m"), time.Hour, corev1.ConditionFalse, problem(plan.ReasonSinkNotResolved), false, 4 * time.Second, 4 * time.Second, nil},
		{"a Secret that an informer tells of", v1alpha1.Bad("SecretNotFound", "m"), time.Hour, corev1.ConditionFalse, problem(plan.ReasonSecretNotFound), false, 30 * time.Second, time.Minute, nil},
		{"a bus that an informer tells of", v1alpha1.Bad("BusNotFound", "m"), 0, corev1.ConditionTrue, problem(plan.ReasonBusNotFound), false, 30 * time.Second, time.Minute,
			[]string{"Warning BusNotFound m"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := Trigger("shop", "t")
			tr.Status.Mark(v1alpha1.Good(), v1alpha1.Good(), tt.ready)
			for i := range tr.Status.Conditions {
				tr.Status.Conditions[i].LastTransitionTime = apis.VolatileTime{Inner: metav1.NewTime(time.Now().Add(-tt.age))}
			}
			recorder := record.NewFakeRecorder(10)
			var told objects.Told
			finish := func() time.Duration {
				_, d := controller.IsRequeueKey(told.Finish(controller.WithEventRecorder(t.Context(), recorder), tr, tt.before, &objects.Outcome{
					Compiled: &objects.Compiled{Problems: tt.problems}, States: map[string]workload.State{"w": {Ready: true, Late: tt.late}},
				}))
				return d
			}
			got := finish()
			finish() // with a lister that does not know yet what the pass before wrote
			if got < tt.at || got > tt.most {
				t.Errorf("looks again after %v, want %v to %v", got, tt.at, tt.most)
			}
			close(recorder.Events)
			var events []string
			for e := range recorder.Events {
				events = append(events, e)
			}
			if diff := cmp.Diff(tt.want, events); diff != "" {
				t.Errorf("events (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	good, pending, bad := v1alpha1.Good(), v1alpha1.Pending("p", "m"), v1alpha1.Bad("b", "m")
	for _, tt := range []struct {
		parts [3]v1alpha1.Verdict
		want  corev1.ConditionStatus
	}{
		{[3]v1alpha1.Verdict{good, good, good}, corev1.ConditionTrue},
		{[3]v1alpha1.Verdict{good, pending, good}, corev1.ConditionUnknown},
		{[3]v1alpha1.Verdict{pending, good, bad}, corev1.ConditionFalse},
	} {
		tr := Trigger("shop", "t")
		tr.Status.Mark(tt.parts[0], tt.parts[1], tt.parts[2])
		// A new generation has not been looked at.
		tr.GetConditionSet().Manage(&tr.Status).MarkUnknown(apis.ConditionReady, "New", "new")
		if got := objects.Status(tr); got != tt.want {
			t.Errorf("Status of %v = %s, want %s", tt.parts, got, tt.want)
		}
	}
}

func TestRunning(t *testing.T) {
	ready := workload.State{Ready: true}
	starting := workload.State{Reason: workload.ReasonStarting, Message: "no pod yet"}
	refused := workload.State{Reason: workload.ReasonRefused, Message: "quota exceeded"}
	for _, tt := range []struct {
		name   string
		states map[string]workload.State
		notes  []string
		want   v1alpha1.Verdict
	}{
		{"all are ready", map[string]workload.State{"": ready, "w": ready}, nil, v1alpha1.Good()},
		{"what works is noted", map[string]workload.State{"w": ready}, []string{"n"}, v1alpha1.Verdict{Status: corev1.ConditionTrue, Reason: "Limited", Message: "n"}},
		{"a target that takes nothing is told", map[string]workload.State{"": ready, "w": {Ready: true, Failing: "f"}}, []string{"n"}, v1alpha1.NotDelivered("f; n")},
		{"what is still to come is more important", map[string]workload.State{"": starting, "w": ready}, []string{"n"}, v1alpha1.Pending("Starting", "the shared gateway: no pod yet")},
		{"what fails is most important", map[string]workload.State{"": starting, "w": refused}, nil, v1alpha1.Bad("Refused", "w: quota exceeded")},
		{"many fail", map[string]workload.State{"a": refused, "b": refused, "c": refused, "d": refused, "e": refused}, nil,
			v1alpha1.Bad("Refused", "a: quota exceeded; b: quota exceeded; c: quota exceeded; and 2 more")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := objects.Outcome{Compiled: &objects.Compiled{}, States: tt.states, Notes: tt.notes}
			if diff := cmp.Diff(tt.want, o.Running()); diff != "" {
				t.Errorf("Running (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestOptionalErrors(t *testing.T) {
	away := errors.New("etcd is away")
	taken := &optional.TakenError{Kind: "Component", Namespace: "shop", Name: "c"}
	o := objects.NewOutcome(&objects.Compiled{})
	o.Optional(errors.Join(taken, nil, taken))
	if o.Optional(nil); o.Again != nil {
		t.Errorf("of a name that is taken %v is tried again", o.Again)
	}
	if o.Optional(errors.Join(taken, away)); !errors.Is(o.Again, away) || errors.Is(o.Again, taken) {
		t.Errorf("%v is tried again, want what may pass", o.Again)
	}
	if got, want := len(o.Notes), 4; got != want {
		t.Errorf("%d notes, want %d", got, want)
	}
}
