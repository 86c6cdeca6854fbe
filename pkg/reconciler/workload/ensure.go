package workload

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"knative.dev/pkg/kmeta"
)

// object is a pointer to a type of the API.
type object[T any] interface {
	*T
	metav1.Object
	DeepCopy() *T
}

// lister is of one type and one namespace.
type lister[T any] interface {
	Get(name string) (*T, error)
	List(selector labels.Selector) ([]*T, error)
}

// client is of one type and one namespace.
type client[T any] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*T, error)
	Create(ctx context.Context, o *T, opts metav1.CreateOptions) (*T, error)
	Update(ctx context.Context, o *T, opts metav1.UpdateOptions) (*T, error)
}

type deleter interface {
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// identity says which object is meant. Without an owner, it may be anybody's.
type identity struct {
	kind, namespace, name string
	owner                 kmeta.OwnerRefable
}

func (i identity) String() string { return i.kind + " " + i.namespace + "/" + i.name }

// tries is how often an object is written at most, when somebody else writes it too.
const tries = 3

// ensure makes an object as fill says, and returns it. What fill does not set stays as it is. It writes nothing when fill changes nothing.
// The lister may lag, and does not see objects without our labels: if it was wrong, the API server is asked.
func ensure[T any, P object[T]](ctx context.Context, id identity, cached lister[T], api client[T], fill func(P) error) (P, error) {
	have, err := cached.Get(id.name)
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
		have, err = api.Get(ctx, id.name, metav1.GetOptions{})
	}
}

func create[T any, P object[T]](ctx context.Context, id identity, api client[T], fill func(P) error) (P, error) {
	want := P(new(T))
	want.SetNamespace(id.namespace)
	want.SetName(id.name)
	if err := fill(want); err != nil {
		return nil, err
	}
	o, err := api.Create(ctx, want, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	return o, nil
}

func update[T any, P object[T]](ctx context.Context, id identity, api client[T], have P, fill func(P) error) (P, error) {
	if id.owner != nil && !metav1.IsControlledBy(have, id.owner.GetObjectMeta()) {
		return nil, &takenError{id}
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

// remove deletes what owner controls of the workloads for whose names it is called for.
func remove[T any, P object[T]](ctx context.Context, owner kmeta.OwnerRefable, called func(name string) bool, cached lister[T], api deleter) error {
	all, err := cached.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, o := range all {
		p := P(o)
		if !metav1.IsControlledBy(p, owner.GetObjectMeta()) || p.GetDeletionTimestamp() != nil || !called(p.GetLabels()[labelWorkload]) {
			continue
		}
		err := api.Delete(ctx, p.GetName(), metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.GetUID()))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete %T %s/%s: %w", *p, p.GetNamespace(), p.GetName(), err)
		}
	}
	return nil
}
