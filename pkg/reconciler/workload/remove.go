package workload

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/reconciler/child"
)

type deleter interface {
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// remove deletes what owner controls of the workloads for whose names it is called for.
func remove[T any, P child.Object[T]](ctx context.Context, owner kmeta.OwnerRefable, called func(name string) bool, cached cache.Indexer, api deleter) error {
	all, err := cached.ByIndex(byOwner, string(owner.GetObjectMeta().GetUID()))
	if err != nil {
		return err
	}
	for _, o := range all {
		p := P(o.(*T))
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
