package objects

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/tracker"
)

type secretsKey struct{}

// WithSecrets returns a context whose Readers are told when a Secret comes, changes or goes, and the informer that has to run for that.
func WithSecrets(ctx context.Context, client metadata.Interface) (context.Context, controller.Informer) {
	informer := metadatainformer.NewFilteredMetadataInformer(client, corev1.SchemeGroupVersion.WithResource("secrets"), metav1.NamespaceAll,
		0, cache.Indexers{}, nil).Informer()
	_ = informer.SetTransform(identity) // an error says that it runs
	return context.WithValue(ctx, secretsKey{}, informer), informer
}

// identity is what is held of a Secret: a cluster may have very many, and an annotation of kubectl apply has the values.
func identity(o any) (any, error) {
	m, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil, fmt.Errorf("%T is no metadata", o)
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion},
	}, nil
}

// onSecret tells t of every Secret that comes, changes or goes.
func onSecret(ctx context.Context, t tracker.Interface) {
	_, _ = ctx.Value(secretsKey{}).(cache.SharedIndexInformer).AddEventHandler(controller.HandleAll(t.OnChanged))
}

// trackSecret makes the object that is compiled be looked at again when the Secret changes.
func (s *scope) trackSecret(namespace, name string) {
	// An error says that the name can never be one, and so it will not be found.
	_ = s.r.tracker.TrackReference(tracker.Reference{APIVersion: "v1", Kind: "Secret", Namespace: namespace, Name: name}, s.parent)
}
