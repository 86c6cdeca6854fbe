package testing

import (
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgotesting "k8s.io/client-go/testing"

	"github.com/openfunction/events/pkg/reconciler/dapr"
	"github.com/openfunction/events/pkg/reconciler/keda"
	"github.com/openfunction/events/pkg/reconciler/optional"
)

// Optional returns the children of kinds that clusters may not have, once the given number of those kinds is known to be in the world.
func Optional(w *World, component string, installed int) *optional.Children {
	seen := make(chan struct{}, 10)
	c := optional.New(w.Ctx, optional.Options{
		Component: component,
		Kinds:     []schema.GroupVersionResource{dapr.Resource, keda.Resource},
		Installed: func() { seen <- struct{}{} },
		Changed:   func(any) {},
	})
	for range installed {
		<-seen
	}
	return c
}

// DaprDefinition makes a cluster one with Dapr.
func DaprDefinition() *unstructured.Unstructured { return definition(dapr.Resource) }

// KEDADefinition makes a cluster one with KEDA.
func KEDADefinition() *unstructured.Unstructured { return definition(keda.Resource) }

func definition(resource schema.GroupVersionResource) *unstructured.Unstructured {
	u := dynamicObject(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, "",
		resource.GroupResource().String())
	u.Object["spec"] = map[string]any{"versions": []any{map[string]any{"name": resource.Version, "served": true}}}
	u.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": "True"}}}
	return u
}

// Component is one of Dapr that is not ours.
func Component(namespace, name string) *unstructured.Unstructured {
	return dynamicObject(dapr.Resource.GroupVersion().WithKind("Component"), namespace, name)
}

// InduceFailure is a reaction of a fake client: the API server cannot do it now.
func InduceFailure(clientgotesting.Action) (bool, runtime.Object, error) {
	return true, nil, apierrors.NewInternalError(errors.New("etcd is away"))
}
