package optional

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/controller"
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// kind watches the children of a kind while the cluster has it.
type kind struct {
	resource schema.GroupVersionResource
	children *Children

	mu       sync.Mutex
	informer cache.SharedIndexInformer // nil while the cluster does not have the kind
	end      context.CancelFunc
}

// indexer returns the children that exist, nil while that is not known.
func (k *kind) indexer() cache.Indexer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.informer == nil || !k.informer.HasSynced() {
		return nil
	}
	return k.informer.GetIndexer()
}

// definition watches whether the cluster has the kind.
func (k *kind) definition(ctx context.Context) cache.SharedIndexInformer {
	name := k.resource.GroupResource().String()
	informer := dynamicinformer.NewFilteredDynamicInformer(k.children.client, definitions, "", 0, nil, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}).Informer()
	_, _ = informer.AddEventHandler(controller.HandleAll(func(any) {
		crd, exists, _ := informer.GetStore().GetByKey(name)
		k.set(ctx, exists && k.served(crd.(*unstructured.Unstructured)))
	}))
	return informer
}

// served tells whether the API server answers requests for the kind.
func (k *kind) served(crd *unstructured.Unstructured) bool {
	return has(crd, map[string]any{"type": "Established", "status": "True"}, "status", "conditions") &&
		has(crd, map[string]any{"name": k.resource.Version, "served": true}, "spec", "versions")
}

// has tells whether the list at a path of o has an element with the fields of want.
func has(o *unstructured.Unstructured, want map[string]any, path ...string) bool {
	list, _, _ := unstructured.NestedSlice(o.Object, path...)
	for _, element := range list {
		got, _ := element.(map[string]any)
		equal := true
		for name, value := range want {
			equal = equal && got[name] == value
		}
		if equal {
			return true
		}
	}
	return false
}

// set begins or ends to watch the children.
func (k *kind) set(ctx context.Context, served bool) {
	k.mu.Lock()
	was := k.informer != nil
	switch {
	case served && !was:
		ctx, k.end = context.WithCancel(ctx)
		k.informer = k.watch(ctx)
	case !served && was:
		k.end()
		k.informer = nil
	}
	k.mu.Unlock()
	if !served && was {
		k.children.options.Installed()
	}
}

func (k *kind) watch(ctx context.Context) cache.SharedIndexInformer {
	c := k.children
	ours := c.labels().String()
	informer := dynamicinformer.NewFilteredDynamicInformer(c.client, k.resource, metav1.NamespaceAll, 0, indexers, func(o *metav1.ListOptions) {
		o.LabelSelector = ours
	}).Informer()
	_, _ = informer.AddEventHandler(controller.HandleAll(c.options.Changed))
	go informer.Run(ctx.Done())
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			c.options.Installed()
		}
	}()
	return informer
}
