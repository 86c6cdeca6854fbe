package workload

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/kmeta"
)

// The labels of all children. That of the owner is labelOwner and the component.
const (
	labelName      = "app.kubernetes.io/name"
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelComponent = "app.kubernetes.io/component"
	labelWorkload  = "events.openfunction.io/workload"
	labelOwner     = "events.openfunction.io/"

	product   = "openfunction-events"
	managedBy = "events-controller"
	// Selector finds everything of ours, the pods of the shared gateway included.
	Selector = labelName + "=" + product
)

// labels are those of every child of w, and of its pods.
func (w Workload) labels() map[string]string {
	return map[string]string{
		labelName:                product,
		labelManagedBy:           managedBy,
		labelComponent:           w.Component,
		labelWorkload:            w.Name,
		labelOwner + w.Component: Name(w.Owner.GetObjectMeta().GetName()),
	}
}

// selector finds the pods of w.
func (w Workload) selector() map[string]string {
	return map[string]string{labelName: product, labelWorkload: w.Name}
}

// fillMeta adds our labels to those of others, and says whose child o is.
func (w Workload) fillMeta(o metav1.Object) {
	o.SetLabels(merged(o.GetLabels(), w.labels()))
	if metav1.GetControllerOf(o) == nil {
		o.SetOwnerReferences(append(o.GetOwnerReferences(), *kmeta.NewControllerRef(w.Owner)))
	}
}

// merged adds the entries of more to those of m, which may be nil.
func merged(m, more map[string]string) map[string]string {
	all := make(map[string]string, len(m)+len(more))
	maps.Copy(all, m)
	maps.Copy(all, more)
	return all
}
