package testing

import (
	"fmt"
	"strings"

	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// Text is a status as tests look at it: the state with its numbers, and a line for each condition but Ready, by name.
func Text(w *v1alpha1.WorkloadStatus, s *duckv1.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s components %s workloads %s\n", w.State, w.ComponentStatistics, w.WorkloadStatistics)
	for _, c := range s.Conditions {
		if c.Type == apis.ConditionReady {
			continue
		}
		fmt.Fprintf(&b, "%s %s", c.Type, c.Status)
		if c.Reason != "" {
			fmt.Fprintf(&b, " %s: %s", c.Reason, c.Message)
		}
		b.WriteString("\n")
	}
	return b.String()
}
