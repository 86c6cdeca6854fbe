package child

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/kmeta"
)

// FillMeta adds labels to those that o has of others, and says whose child it is.
func FillMeta(o metav1.Object, labels map[string]string, owner kmeta.OwnerRefable) {
	o.SetLabels(Merged(o.GetLabels(), labels))
	if metav1.GetControllerOf(o) == nil {
		o.SetOwnerReferences(append(o.GetOwnerReferences(), *kmeta.NewControllerRef(owner)))
	}
}

// Merged returns the entries of m, which may be nil, and of more, which prevail.
func Merged(m, more map[string]string) map[string]string {
	all := make(map[string]string, len(m)+len(more))
	maps.Copy(all, m)
	maps.Copy(all, more)
	return all
}

// With returns a copy of s where o is in the place of the one of its name, or at the end.
func With[T any](s []T, o T, name func(T) string) []T {
	s = slices.Clone(s)
	if i := slices.IndexFunc(s, func(other T) bool { return name(other) == name(o) }); i >= 0 {
		s[i] = o
		return s
	}
	return append(s, o)
}

// Restricted is what a container of ours may do: what the restricted Pod Security Standard allows, and no writing outside its volumes.
func Restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		RunAsNonRoot:             new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           Seccomp(),
	}
}

// Seccomp is the profile of our pods and containers.
func Seccomp() *corev1.SeccompProfile {
	return &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
}
