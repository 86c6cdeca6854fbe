// Package optional applies children of kinds that a cluster may not have.
package optional

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/injection/clients/dynamicclient"
	"knative.dev/pkg/kmeta"
)

// Options configure Children. All are required.
type Options struct {
	// Component is the label app.kubernetes.io/component of the children: eventsource or trigger.
	Component string
	// Kinds are those that the cluster may not have.
	Kinds []schema.GroupVersionResource
	// Installed is called when Children.Installed has changed: every owner is to be looked at again.
	Installed func()
	// Changed is called with a child of ours, an object or a cache.DeletedFinalStateUnknown, that came, changed or went.
	Changed func(child any)
}

// Children applies children of kinds that a cluster may not have. It is safe for concurrent use.
//
// It watches the definitions of the kinds, one by one by name, and of the kinds that exist the children with our labels. So it needs
// get, list, watch, create, update and delete on the kinds; and list and watch on customresourcedefinitions with the resourceNames
// <resource>.<group>.
type Children struct {
	options Options
	client  dynamic.Interface
	kinds   map[schema.GroupVersionResource]*kind
}

// New returns Children that use the dynamic client of ctx and watch until ctx is done.
func New(ctx context.Context, o Options) *Children {
	c := &Children{options: o, client: dynamicclient.Get(ctx), kinds: map[schema.GroupVersionResource]*kind{}}
	for _, resource := range o.Kinds {
		k := &kind{resource: resource, children: c}
		c.kinds[resource] = k
		go k.definition(ctx).Run(ctx.Done())
	}
	return c
}

// Installed tells whether children of a kind can be applied now: the cluster has it, and we know those that exist. In the first moments
// it is false of every kind.
func (c *Children) Installed(resource schema.GroupVersionResource) bool {
	return c.kinds[resource].indexer() != nil
}

// TakenError says that a child cannot be written since there is an object with its name that belongs to somebody else.
type TakenError struct {
	// Kind, Namespace and Name are the object's.
	Kind, Namespace, Name string
	// Owner is who controls the object, as "Kind name", "" if nobody does.
	Owner string
}

func (e *TakenError) Error() string {
	whose := "is not ours"
	if e.Owner != "" {
		whose = "belongs to " + e.Owner
	}
	return fmt.Sprintf("%s %s/%s is in the way: it %s; rename one of the two, or delete it", e.Kind, e.Namespace, e.Name, whose)
}

// Apply makes the desired objects, which are of one kind and which it does not change, the owner's only children of that kind. It writes
// only what differs, and of labels and annotations it changes only those that it sets. Without the kind in the cluster it does nothing.
//
// A *TakenError in the error's tree means that an object was left alone that is not the owner's; the others have been applied all the same.
// Nothing calls Changed when such an object goes.
func (c *Children) Apply(ctx context.Context, owner kmeta.OwnerRefable, resource schema.GroupVersionResource, desired []*unstructured.Unstructured) error {
	indexer := c.kinds[resource].indexer()
	if indexer == nil {
		return nil
	}
	parent := owner.GetObjectMeta()
	found, err := indexer.ByIndex(byOwner, string(parent.GetUID()))
	if err != nil {
		return err
	}
	children := make(map[string]*unstructured.Unstructured, len(found))
	for _, o := range found {
		child := o.(*unstructured.Unstructured)
		children[child.GetName()] = child
	}

	w := writer{client: c.client.Resource(resource).Namespace(parent.GetNamespace()), owner: parent}
	var errs []error
	for _, want := range desired {
		want = c.own(want, owner)
		errs = append(errs, w.write(ctx, want, children[want.GetName()]))
		delete(children, want.GetName())
	}
	for _, name := range slices.Sorted(maps.Keys(children)) {
		errs = append(errs, w.remove(ctx, children[name]))
	}
	return errors.Join(errs...)
}

const labelPrefix = "events.openfunction.io/"

// labels are those of every child of ours.
func (c *Children) labels() labels.Set {
	return labels.Set{
		"app.kubernetes.io/name":       "openfunction-events",
		"app.kubernetes.io/managed-by": "events-controller",
		"app.kubernetes.io/component":  c.options.Component,
	}
}

// own returns want as a child of owner.
func (c *Children) own(want *unstructured.Unstructured, owner kmeta.OwnerRefable) *unstructured.Unstructured {
	want = want.DeepCopy()
	ours := c.labels()
	ours[labelPrefix+c.options.Component] = kmeta.ChildName(owner.GetObjectMeta().GetName(), "")
	want.SetLabels(labels.Merge(want.GetLabels(), ours))
	want.SetNamespace(owner.GetObjectMeta().GetNamespace())
	want.SetOwnerReferences([]metav1.OwnerReference{*kmeta.NewControllerRef(owner)})
	return want
}

// byOwner is the index of children by the UID of who controls them.
const byOwner = "owner"

var indexers = cache.Indexers{byOwner: func(o any) ([]string, error) {
	child, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("index %T: not unstructured", o)
	}
	if controller := metav1.GetControllerOfNoCopy(child); controller != nil {
		return []string{string(controller.UID)}, nil
	}
	return nil, nil
}}

// writer writes the children of one owner.
type writer struct {
	client dynamic.ResourceInterface
	owner  metav1.Object
}

// write creates want, or makes have, which is nil if no child of that name is known, into it.
func (w *writer) write(ctx context.Context, want, have *unstructured.Unstructured) error {
	var err error
	if have == nil {
		_, err = w.client.Create(ctx, want, metav1.CreateOptions{})
		err = describe("create", want, err)
	} else {
		err = w.update(ctx, want, have)
	}
	if !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
		return err
	}
	// Either what we know is old, or it is somebody else's.
	have, err = w.client.Get(ctx, want.GetName(), metav1.GetOptions{})
	if err != nil {
		return describe("get", want, err)
	}
	if !metav1.IsControlledBy(have, w.owner) {
		return taken(have)
	}
	return w.update(ctx, want, have)
}

// update makes have into want, if it differs.
func (w *writer) update(ctx context.Context, want, have *unstructured.Unstructured) error {
	next := merge(have, want)
	if equality.Semantic.DeepEqual(have.Object, next.Object) {
		return nil
	}
	_, err := w.client.Update(ctx, next, metav1.UpdateOptions{})
	return describe("update", want, err)
}

// remove deletes have, but not another object of its name.
func (w *writer) remove(ctx context.Context, have *unstructured.Unstructured) error {
	uid := have.GetUID()
	err := w.client.Delete(ctx, have.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return describe("delete", have, err)
}

func describe(verb string, o *unstructured.Unstructured, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s %s/%s: %w", verb, o.GetKind(), o.GetNamespace(), o.GetName(), err)
}

func taken(o *unstructured.Unstructured) *TakenError {
	e := &TakenError{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
	if controller := metav1.GetControllerOfNoCopy(o); controller != nil {
		e.Owner = controller.Kind + " " + controller.Name
	}
	return e
}

// merge returns have with everything that want says. Labels and annotations that want does not mention stay, and so do the status and
// whatever the API server keeps in the metadata.
func merge(have, want *unstructured.Unstructured) *unstructured.Unstructured {
	next := have.DeepCopy()
	for field := range have.Object {
		if !kept(field) {
			delete(next.Object, field)
		}
	}
	for field, value := range want.DeepCopy().Object {
		if !kept(field) {
			next.Object[field] = value
		}
	}
	next.SetLabels(labels.Merge(have.GetLabels(), want.GetLabels()))
	if want := want.GetAnnotations(); len(want) > 0 {
		next.SetAnnotations(labels.Merge(have.GetAnnotations(), want))
	}
	return next
}

// kept tells whether a field of an object is not for those who declare it.
func kept(field string) bool {
	switch field {
	case "apiVersion", "kind", "metadata", "status":
		return true
	}
	return false
}
