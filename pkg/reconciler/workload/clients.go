package workload

import (
	"context"

	"github.com/kelseyhightower/envconfig"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appsv1listers "k8s.io/client-go/listers/apps/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	rbacv1listers "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/client/injection/kube/informers/apps/v1/deployment/filtered"
	podinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/pod/filtered"
	secretinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/secret/filtered"
	serviceaccountinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/serviceaccount/filtered"
	filteredfactory "knative.dev/pkg/client/injection/kube/informers/factory/filtered"
	roleinformer "knative.dev/pkg/client/injection/kube/informers/rbac/v1/role/filtered"
	rolebindinginformer "knative.dev/pkg/client/injection/kube/informers/rbac/v1/rolebinding/filtered"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"
)

// Clients reads and writes the children of workloads. All fields but PullSecrets are required. It is safe for concurrent use.
type Clients struct {
	Kube            kubernetes.Interface
	Deployments     appsv1listers.DeploymentLister
	Secrets         corev1listers.SecretLister
	ServiceAccounts corev1listers.ServiceAccountLister
	Roles           rbacv1listers.RoleLister
	RoleBindings    rbacv1listers.RoleBindingLister
	// Indexers have, by resource, what the listers have, and the pods of workloads and of the shared gateway, with indexes: a
	// pass over one object must not look at those of all others.
	Indexers map[string]cache.Indexer
	Reports  *Reports
	// Image of the gateway.
	Image       string
	PullSecrets PullSecrets
}

// environment is that of the controller.
type environment struct {
	// GatewayImage is what workloads run.
	GatewayImage string `envconfig:"GATEWAY_IMAGE" required:"true"`
	// PullSecrets are what its image is pulled with.
	PullSecrets PullSecrets `envconfig:"IMAGE_PULL_SECRETS"`
}

// WithSelectors returns a context that lets injection make the informers of NewClients. They see nothing but what has our labels: the
// controller does not hold the Secrets of a cluster.
func WithSelectors(ctx context.Context) context.Context {
	return filteredfactory.WithSelectors(ctx, Selector)
}

const (
	byOwner    = "owner"    // the UID of the controlling object
	byWorkload = "workload" // namespace/name
)

// indexes are those of Clients.Indexers.
func indexes() cache.Indexers {
	return cache.Indexers{
		byOwner: func(o any) ([]string, error) {
			if c := metav1.GetControllerOfNoCopy(o.(metav1.Object)); c != nil {
				return []string{string(c.UID)}, nil
			}
			return nil, nil
		},
		byWorkload: func(o any) ([]string, error) {
			m := o.(metav1.Object)
			return []string{m.GetNamespace() + "/" + m.GetLabels()[labelWorkload]}, nil
		},
	}
}

// NewClients returns the clients and listers of ctx, for the image that the environment names. It panics when there is none, or what the
// environment says cannot be read.
func NewClients(ctx context.Context) *Clients {
	var env environment
	if err := envconfig.Process("", &env); err != nil {
		logging.FromContext(ctx).Panicw("environment not read", zap.Error(err))
	}
	indexers := map[string]cache.Indexer{}
	for resource, informer := range map[string]cache.SharedIndexInformer{
		"deployments":     filtered.Get(ctx, Selector).Informer(),
		"secrets":         secretinformer.Get(ctx, Selector).Informer(),
		"serviceaccounts": serviceaccountinformer.Get(ctx, Selector).Informer(),
		"roles":           roleinformer.Get(ctx, Selector).Informer(),
		"rolebindings":    rolebindinginformer.Get(ctx, Selector).Informer(),
		"pods":            podinformer.Get(ctx, Selector).Informer(),
	} {
		_ = informer.AddIndexers(indexes()) // an error says that another controller has added them
		indexers[resource] = informer.GetIndexer()
	}
	return &Clients{
		Kube:            kubeclient.Get(ctx),
		Deployments:     filtered.Get(ctx, Selector).Lister(),
		Secrets:         secretinformer.Get(ctx, Selector).Lister(),
		ServiceAccounts: serviceaccountinformer.Get(ctx, Selector).Lister(),
		Roles:           roleinformer.Get(ctx, Selector).Lister(),
		RoleBindings:    rolebindinginformer.Get(ctx, Selector).Lister(),
		Indexers:        indexers,
		Reports:         NewReports(),
		Image:           env.GatewayImage,
		PullSecrets:     env.PullSecrets,
	}
}

// Watch makes impl look again at an object when a child or a pod of one of its workloads changes or goes. The component is that of the
// workloads.
func (c *Clients) Watch(ctx context.Context, component string, impl *controller.Impl) {
	add := func(informer cache.SharedIndexInformer, enqueue func(any)) {
		_, _ = informer.AddEventHandler(cache.FilteringResourceEventHandler{
			FilterFunc: func(o any) bool {
				child, err := kmeta.DeletionHandlingAccessor(o)
				return err == nil && child.GetLabels()[labelComponent] == component
			},
			Handler: controller.HandleAll(enqueue),
		})
	}
	add(filtered.Get(ctx, Selector).Informer(), impl.EnqueueControllerOf)
	add(secretinformer.Get(ctx, Selector).Informer(), impl.EnqueueControllerOf)
	add(serviceaccountinformer.Get(ctx, Selector).Informer(), impl.EnqueueControllerOf)
	add(roleinformer.Get(ctx, Selector).Informer(), impl.EnqueueControllerOf)
	add(rolebindinginformer.Get(ctx, Selector).Informer(), impl.EnqueueControllerOf)
	// A ReplicaSet controls a pod, and the label of the owner may be shortened: the Deployment knows who it is. If that is gone, so will the
	// pod be, which somebody may wait for.
	add(podinformer.Get(ctx, Selector).Informer(), func(o any) {
		pod, err := kmeta.DeletionHandlingAccessor(o)
		if err != nil {
			return
		}
		if d, err := c.Deployments.Deployments(pod.GetNamespace()).Get(pod.GetLabels()[labelWorkload]); err == nil {
			impl.EnqueueControllerOf(d)
			return
		}
		impl.EnqueueKey(types.NamespacedName{Namespace: pod.GetNamespace(), Name: pod.GetLabels()[labelOwner+component]})
	})
}
