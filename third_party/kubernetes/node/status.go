package node

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// report writes the pod's status unless the API server has it already.
func (r *podRunner) report(ctx context.Context, pod *corev1.Pod) error {
	next := pod.DeepCopy()
	r.fill(&next.Status, pod)
	if equality.Semantic.DeepEqual(next.Status, pod.Status) {
		return nil
	}
	_, err := r.node.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

// fill sets what the node knows and leaves the rest of status as it is.
func (r *podRunner) fill(status *corev1.PodStatus, pod *corev1.Pod) {
	if status.Phase == corev1.PodSucceeded || status.Phase == corev1.PodFailed {
		return // for ever
	}
	r.mu.Lock()
	inited, over, waiting := r.inited, r.over, r.waiting
	r.mu.Unlock()
	if status.StartTime == nil {
		now := metav1.Now().Rfc3339Copy()
		status.StartTime = &now
	}
	status.PodIP, status.PodIPs = r.pod.Status.PodIP, []corev1.PodIP{{IP: r.pod.Status.PodIP}}
	status.HostIP, status.HostIPs = nodeIP, []corev1.HostIP{{IP: nodeIP}}
	status.InitContainerStatuses = statuses(r.inits, waiting)
	status.ContainerStatuses = statuses(r.containers, waiting)
	status.Phase = r.phase(inited, over, status)
	ready := inited && pod.DeletionTimestamp == nil && status.Phase == corev1.PodRunning
	for _, s := range status.ContainerStatuses {
		ready = ready && s.Ready
	}
	for kind, yes := range map[corev1.PodConditionType]bool{
		corev1.PodScheduled: true, corev1.PodInitialized: inited, corev1.ContainersReady: ready, corev1.PodReady: ready && gatesOpen(pod),
	} {
		condition := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, ObservedGeneration: pod.Generation}
		if yes {
			condition.Status = corev1.ConditionTrue
		} else if kind != corev1.PodInitialized {
			condition.Reason = "ContainersNotReady"
		}
		podutil.UpdatePodCondition(status, &condition)
	}
}

// gatesOpen reports whether others have set the conditions that the pod waits for.
func gatesOpen(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.ReadinessGates {
		_, c := podutil.GetPodCondition(&pod.Status, gate.ConditionType)
		if c == nil || c.Status != corev1.ConditionTrue {
			return false
		}
	}
	return true
}

func statuses(containers []*container, waiting error) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for _, c := range containers {
		s := c.current()
		if waiting != nil && s.State.Waiting != nil {
			s.State.Waiting.Message = waiting.Error()
		}
		// The API server keeps seconds: a finer time would differ for ever.
		truncate(&s.State)
		truncate(&s.LastTerminationState)
		all = append(all, s)
	}
	return all
}

func truncate(s *corev1.ContainerState) {
	if s.Running != nil {
		s.Running.StartedAt = s.Running.StartedAt.Rfc3339Copy()
	}
	if s.Terminated != nil {
		s.Terminated.StartedAt = s.Terminated.StartedAt.Rfc3339Copy()
		s.Terminated.FinishedAt = s.Terminated.FinishedAt.Rfc3339Copy()
	}
}

func (r *podRunner) phase(inited, over bool, status *corev1.PodStatus) corev1.PodPhase {
	if over {
		for _, s := range append(append([]corev1.ContainerStatus{}, status.InitContainerStatuses...), status.ContainerStatuses...) {
			if s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 && !r.sidecar(s.Name) {
				return corev1.PodFailed
			}
		}
		return corev1.PodSucceeded
	}
	if !inited {
		return corev1.PodPending
	}
	for _, s := range status.ContainerStatuses {
		if s.State.Running == nil && s.State.Terminated == nil && s.LastTerminationState.Terminated == nil {
			return corev1.PodPending
		}
	}
	return corev1.PodRunning
}

func (r *podRunner) sidecar(name string) bool {
	for _, c := range r.inits {
		if c.spec.Name == name {
			return c.spec.RestartPolicy != nil
		}
	}
	return false
}
