package workload

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/openfunction/events/pkg/reconciler/child"
)

// annotationPull of a pod template has the names of PullSecrets that were put there, and so are taken away when they are not named any more.
const annotationPull = "events.openfunction.io/image-pull-secrets"

// PullSecrets are the names of Secrets that are expected in the namespace of each workload, and that its images are pulled with.
type PullSecrets []string

// Decode reads names with commas between them, as the environment has them.
func (p *PullSecrets) Decode(value string) error {
	*p = nil
	if strings.TrimSpace(value) == "" {
		return nil
	}
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if wrong := validation.IsDNS1123Subdomain(name); wrong != nil {
			return fmt.Errorf("%q is no name of a Secret: %s; set IMAGE_PULL_SECRETS of the Deployment events-controller to names with commas between them, "+
				"as in \"registry,mirror\", or do not set it", name, wrong[0])
		}
		*p = append(*p, name)
	}
	return nil
}

// Fill has the pods of t use p, and what others have put there. It takes away what it put there before and p does not name.
func (p PullSecrets) Fill(t *corev1.PodTemplateSpec) {
	ours := append(strings.Split(t.Annotations[annotationPull], ","), p...)
	pod := &t.Spec
	pod.ImagePullSecrets = slices.DeleteFunc(pod.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return slices.Contains(ours, r.Name) })
	for _, name := range p {
		pod.ImagePullSecrets = append(pod.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	delete(t.Annotations, annotationPull)
	if len(p) > 0 {
		t.Annotations = child.Merged(t.Annotations, map[string]string{annotationPull: strings.Join(p, ",")})
	}
}
