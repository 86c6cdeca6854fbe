package workload

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
