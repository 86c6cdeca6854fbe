package objects

import (
	"context"
	"hash/fnv"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/controller"
	pkgreconciler "knative.dev/pkg/reconciler"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// waitMin and waitMax bound how soon an object that is not ready is looked at again: the longer nothing changes, the later.
	waitMin = 300 * time.Millisecond
	waitMax = 4 * time.Second
	// settled is how soon, at the earliest, others are: those that are ready, since a gateway may change without a word, and those that an
	// informer will tell of. At the latest it is twice that.
	settled = 30 * time.Second
)

// Status returns the status that Ready has by its parts. Ready itself may say that a new generation has not been looked at yet.
func Status(o duckv1.KRShaped) corev1.ConditionStatus {
	status := corev1.ConditionTrue
	for _, c := range o.GetStatus().Conditions {
		switch {
		case c.Type == apis.ConditionReady || c.IsTrue():
		case c.IsFalse():
			return corev1.ConditionFalse
		default:
			status = corev1.ConditionUnknown
		}
	}
	return status
}

// Interrupted ends a pass over o, whose state is in s, before it could be marked: what was said of another generation does not count.
func Interrupted(o duckv1.KRShaped, s *v1alpha1.WorkloadStatus) {
	if ready := o.GetStatus().GetCondition(apis.ConditionReady); s.State == v1alpha1.StateRunning && !ready.IsTrue() {
		s.State = v1alpha1.StatePending
	}
}

// Finish ends a pass over o, which was marked with found: it tells in a Kubernetes Event when the status of Ready is not before, and returns
// when to look again.
func (t *Told) Finish(ctx context.Context, o duckv1.KRShaped, before corev1.ConditionStatus, found *Outcome) pkgreconciler.Event {
	ready := o.GetStatus().GetCondition(apis.ConditionReady)
	if t.News(o.(metav1.Object).GetUID(), ready.Status) && ready.Status != before {
		tell(ctx, o.(runtime.Object), ready)
	}
	if found.Again != nil {
		return found.Again
	}
	return controller.NewRequeueAfter(found.wait(ready, time.Now()))
}

func tell(ctx context.Context, o runtime.Object, ready *apis.Condition) {
	recorder := controller.GetEventRecorder(ctx)
	switch {
	case ready.IsTrue():
		recorder.Event(o, corev1.EventTypeNormal, "Ready", "events flow")
	case ready.IsFalse():
		recorder.Event(o, corev1.EventTypeWarning, ready.Reason, ready.Message)
	default:
		recorder.Event(o, corev1.EventTypeNormal, ready.Reason, ready.Message)
	}
}

// wait is how long to wait before the next look at an object whose condition is ready.
func (o *Outcome) wait(ready *apis.Condition, now time.Time) time.Duration {
	for _, s := range o.States {
		if s.Late {
			return waitMax
		}
	}
	if ready.IsTrue() || len(o.Problems) > 0 && !slices.ContainsFunc(o.Problems, untold) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(o.owner)) // it never fails
		return settled + time.Duration(h.Sum32()%30)*time.Second
	}
	return min(max(now.Sub(ready.LastTransitionTime.Inner.Time)/4, waitMin), waitMax)
}

// untold tells whether p may pass without any informer of ours noticing.
func untold(p plan.Problem) bool {
	switch p.Reason {
	case plan.ReasonSinkNotResolved, plan.ReasonBusNotReady:
		return true
	}
	return false
}
