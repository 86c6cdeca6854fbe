package workload

import (
	"context"

	"github.com/kelseyhightower/envconfig"
	"go.uber.org/zap"
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

// Clients reads and writes the children of workloads. All fields are required. It is safe for concurrent use.
type Clients struct {
	Kube            kubernetes.Interface
	Deployments     appsv1listers.DeploymentLister
	Secrets         corev1listers.SecretLister
	ServiceAccounts corev1listers.ServiceAccountLister
	Roles           rbacv1listers.RoleLister
	RoleBindings    rbacv1listers.RoleBindingLister
	// Pods are those of workloads and of the shared gateway.
	Pods    corev1listers.PodLister
	Reports *Reports
	// Image of the gateway.
	Image string
}

// environment is that of the controller.
type environment struct {
	// GatewayImage is what workloads run.
	GatewayImage string `envconfig:"GATEWAY_IMAGE" required:"true"`
}

// WithSelectors returns a context that lets injection make the informers of NewClients. They see nothing but what has our labels: the
// controller neither holds nor follows the Secrets of a cluster.
func WithSelectors(ctx context.Context) context.Context {
	return filteredfactory.WithSelectors(ctx, Selector)
}

// NewClients returns the clients and listers of ctx, for the image that the environment names. It panics when there is none.
func NewClients(ctx context.Context) *Clients {
	var env environment
	if err := envconfig.Process("", &env); err != nil {
		logging.FromContext(ctx).Panicw("environment not read", zap.Error(err))
	}
	return &Clients{
		Kube:            kubeclient.Get(ctx),
		Deployments:     filtered.Get(ctx, Selector).Lister(),
		Secrets:         secretinformer.Get(ctx, Selector).Lister(),
		ServiceAccounts: serviceaccountinformer.Get(ctx, Selector).Lister(),
		Roles:           roleinformer.Get(ctx, Selector).Lister(),
		RoleBindings:    rolebindinginformer.Get(ctx, Selector).Lister(),
		Pods:            podinformer.Get(ctx, Selector).Lister(),
		Reports:         NewReports(),
		Image:           env.GatewayImage,
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
	// A ReplicaSet controls a pod, and the label of the owner may be shortened: the Deployment knows who it is.
	add(podinformer.Get(ctx, Selector).Informer(), func(o any) {
		pod, err := kmeta.DeletionHandlingAccessor(o)
		if err != nil {
			return
		}
		if d, err := c.Deployments.Deployments(pod.GetNamespace()).Get(pod.GetLabels()[labelWorkload]); err == nil {
			impl.EnqueueControllerOf(d)
		}
	})
}
