package workload

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/reconciler/child"
)

// lister is of one type and one namespace.
type lister[T any] interface {
	List(selector labels.Selector) ([]*T, error)
}

type deleter interface {
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// remove deletes what owner controls of the workloads for whose names it is called for.
func remove[T any, P child.Object[T]](ctx context.Context, owner kmeta.OwnerRefable, called func(name string) bool, cached lister[T], api deleter) error {
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
