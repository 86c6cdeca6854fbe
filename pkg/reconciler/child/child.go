// Package child makes the objects that belong to one of ours, and writes nothing when nothing has changed.
package child

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/kmeta"
)

// Object is a pointer to a type of the API.
type Object[T any] interface {
	*T
	metav1.Object
	DeepCopy() *T
}

// Getter is of one type and one namespace.
type Getter[T any] interface {
	Get(name string) (*T, error)
}

// Client is of one type and one namespace.
type Client[T any] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*T, error)
	Create(ctx context.Context, o *T, opts metav1.CreateOptions) (*T, error)
	Update(ctx context.Context, o *T, opts metav1.UpdateOptions) (*T, error)
}

// ID says which object is meant. Without an Owner, it may be anybody's.
type ID struct {
	Kind, Namespace, Name string
	Owner                 kmeta.OwnerRefable
}

func (i ID) String() string { return i.Kind + " " + i.Namespace + "/" + i.Name }

// TakenError says that an object is in the way.
type TakenError struct {
	ID
	// Leaving tells that it belongs to an owner of this kind and name that was deleted, and so goes by itself.
	Leaving bool
}

func (e *TakenError) Error() string {
	kind := e.Owner.GetGroupVersionKind().Kind
	if e.Leaving {
		return fmt.Sprintf("%s of the %s of this name before is being removed", e.ID, kind)
	}
	return fmt.Sprintf("%s is in the way: it does not belong to this %s; delete it, or give the %s another name", e.ID, kind, kind)
}

// tries is how often an object is written at most, when somebody else writes it too.
const tries = 3

// Ensure makes an object as fill says, and returns it. What fill does not set stays as it is. It writes nothing when fill changes nothing.
// The lister may lag, and does not see objects without our labels: if it was wrong, the API server is asked.
func Ensure[T any, P Object[T]](ctx context.Context, id ID, cached Getter[T], api Client[T], fill func(P) error) (P, error) {
	have, err := cached.Get(id.Name)
	for try := 1; ; try++ {
		switch {
		case apierrors.IsNotFound(err):
			have, err = create[T, P](ctx, id, api, fill)
		case err != nil:
			return nil, fmt.Errorf("get %s: %w", id, err)
		default:
			have, err = update[T, P](ctx, id, api, have, fill)
		}
		if try == tries || !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
			return have, err
		}
		have, err = api.Get(ctx, id.Name, metav1.GetOptions{})
	}
}

func create[T any, P Object[T]](ctx context.Context, id ID, api Client[T], fill func(P) error) (P, error) {
	want := P(new(T))
	want.SetNamespace(id.Namespace)
	want.SetName(id.Name)
	if err := fill(want); err != nil {
		return nil, err
	}
	o, err := api.Create(ctx, want, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	return o, nil
}

func update[T any, P Object[T]](ctx context.Context, id ID, api Client[T], have P, fill func(P) error) (P, error) {
	if id.Owner != nil && !metav1.IsControlledBy(have, id.Owner.GetObjectMeta()) {
		return nil, &TakenError{id, leaves(have, id.Owner)}
	}
	want := P(have.DeepCopy())
	if err := fill(want); err != nil {
		return nil, err
	}
	if equality.Semantic.DeepEqual(have, want) {
		return have, nil
	}
	o, err := api.Update(ctx, want, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("update %s: %w", id, err)
	}
	return o, nil
}

// leaves tells whether Kubernetes removes o, which belongs to an object that had the place of owner before.
func leaves(o metav1.Object, owner kmeta.OwnerRefable) bool {
	c, kind := metav1.GetControllerOfNoCopy(o), owner.GetGroupVersionKind()
	if c == nil || c.Kind != kind.Kind || c.Name != owner.GetObjectMeta().GetName() {
		return false
	}
	group, err := schema.ParseGroupVersion(c.APIVersion)
	return err == nil && group.Group == kind.Group
}
