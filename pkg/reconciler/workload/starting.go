package workload

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// maxWords bounds what somebody else's message adds to ours, in bytes.
const maxWords = 300

// notStarted says why d has no pod.
func notStarted(d *appsv1.Deployment) string {
	for _, c := range d.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue,
			c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse:
			return "no pod: " + words(c.Message)
		}
	}
	return "no pod yet"
}

// NotRunning says what keeps p from running, if something does.
func NotRunning(p *corev1.Pod) string {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if why := notRunningContainer(s); why != "" {
			return fmt.Sprintf("pod %s: %s", p.Name, why)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("pod %s: %s: %s", p.Name, c.Reason, words(c.Message))
		}
	}
	return ""
}

// notRunningContainer says what keeps a container from running. It is empty when it runs, or has not had the time to.
func notRunningContainer(s corev1.ContainerStatus) string {
	waiting, ended, before := s.State.Waiting, s.State.Terminated, s.LastTerminationState.Terminated
	switch {
	case ended != nil && ended.ExitCode != 0:
		return died(ended)
	case waiting == nil, waiting.Reason == "ContainerCreating", waiting.Reason == "PodInitializing":
		return ""
	case before != nil:
		return waiting.Reason + ": " + died(before)
	}
	return waiting.Reason + ": " + words(waiting.Message)
}

// died tells how a container ended, with its last words.
func died(t *corev1.ContainerStateTerminated) string {
	lines := strings.Split(strings.TrimSpace(t.Message), "\n")
	why := fmt.Sprintf("%s with code %d", cmp.Or(t.Reason, "ended"), t.ExitCode)
	if last := lines[len(lines)-1]; last != "" {
		why += ": " + words(last)
	}
	return why
}

// words shortens a message.
func words(s string) string {
	if len(s) <= maxWords {
		return s
	}
	s = s[:maxWords]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}
