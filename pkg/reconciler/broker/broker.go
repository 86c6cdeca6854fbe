// Package broker runs the servers of buses with spec.embedded: a StatefulSet each, with its Service, password and certificates.
//
// For that the controller needs, in all namespaces:
//
//	apps: statefulsets; "": secrets, services; policy: poddisruptionbudgets: get, list, watch, create, update
//	"": pods: list, watch
//	events.openfunction.io: eventbuses/finalizers, clustereventbuses/finalizers: update
//
// Nothing is deleted: what a bus owns goes with it, but for the volumes, which hold events.
package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appsv1listers "k8s.io/client-go/listers/apps/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	policyv1listers "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	statefulsetinformer "knative.dev/pkg/client/injection/kube/informers/apps/v1/statefulset/filtered"
	podinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/pod/filtered"
	secretinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/secret/filtered"
	serviceinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/service/filtered"
	budgetinformer "knative.dev/pkg/client/injection/kube/informers/policy/v1/poddisruptionbudget/filtered"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/child"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// The reasons why servers are not ready, besides those of workload.Taken and workload.ReasonRefused.
const (
	// ReasonStarting is that some are starting, as far as one knows.
	ReasonStarting = "Starting"
	// ReasonNotRunning is that something keeps a server from running.
	ReasonNotRunning = "NotRunning"
)

// Clients reads and writes what the servers of buses are made of. All fields but PullSecrets are required. It is safe for concurrent use.
type Clients struct {
	Kube         kubernetes.Interface
	StatefulSets appsv1listers.StatefulSetLister
	Services     corev1listers.ServiceLister
	Secrets      corev1listers.SecretLister
	Budgets      policyv1listers.PodDisruptionBudgetLister
	Pods         corev1listers.PodLister
	// Image of a server.
	Image       string
	PullSecrets workload.PullSecrets
	// Now is the time by which certificates are renewed.
	Now func() time.Time
}

// environment is that of the controller.
type environment struct {
	// BusImage is what servers run.
	BusImage string `envconfig:"BUS_IMAGE" required:"true"`
	// PullSecrets are what its image is pulled with.
	PullSecrets workload.PullSecrets `envconfig:"IMAGE_PULL_SECRETS"`
}

// NewClients returns the clients and listers of ctx, for the image that the environment names. It panics when there is none, or what the
// environment says cannot be read.
func NewClients(ctx context.Context) *Clients {
	var env environment
	if err := envconfig.Process("", &env); err != nil {
		logging.FromContext(ctx).Panicw("environment not read", zap.Error(err))
	}
	return &Clients{
		Kube:         kubeclient.Get(ctx),
		StatefulSets: statefulsetinformer.Get(ctx, workload.Selector).Lister(),
		Services:     serviceinformer.Get(ctx, workload.Selector).Lister(),
		Secrets:      secretinformer.Get(ctx, workload.Selector).Lister(),
		Budgets:      budgetinformer.Get(ctx, workload.Selector).Lister(),
		Pods:         podinformer.Get(ctx, workload.Selector).Lister(),
		Image:        env.BusImage,
		PullSecrets:  env.PullSecrets,
		Now:          time.Now,
	}
}

// busOf is the key of the bus that something is part of.
func busOf(part kmeta.Accessor) types.NamespacedName {
	key := types.NamespacedName{Namespace: part.GetNamespace(), Name: part.GetLabels()[labelBus]}
	if part.GetLabels()[labelComponent] == "clustereventbus" {
		key.Namespace = ""
	}
	return key
}

// Watch makes impl look again at a bus of this kind when something of its servers changes or goes.
func Watch(ctx context.Context, kind string, impl *controller.Impl) {
	again := controller.HandleAll(func(o any) {
		part, err := kmeta.DeletionHandlingAccessor(o)
		if err != nil || part.GetLabels()[labelComponent] != strings.ToLower(kind) {
			return
		}
		impl.EnqueueKey(busOf(part))
	})
	for _, informer := range []cache.SharedIndexInformer{
		statefulsetinformer.Get(ctx, workload.Selector).Informer(), serviceinformer.Get(ctx, workload.Selector).Informer(),
		secretinformer.Get(ctx, workload.Selector).Informer(), budgetinformer.Get(ctx, workload.Selector).Informer(),
		podinformer.Get(ctx, workload.Selector).Informer(),
	} {
		_, _ = informer.AddEventHandler(again)
	}
}

// Apply makes the servers of a bus as spec, which has its defaults, says, writing only what differs from what is there, and says how many
// are ready.
//
// An error will pass, and is worth trying again. Everything that a person has to cure is in the State.
func (c *Clients) Apply(ctx context.Context, bus kmeta.OwnerRefable, spec *v1alpha1.EmbeddedSpec) (workload.State, error) {
	s := servers{bus, spec, PlaceOf(bus.GetGroupVersionKind().Kind, bus.GetObjectMeta().GetNamespace(), bus.GetObjectMeta().GetName())}
	set, err := c.apply(ctx, s)
	if taken, ok := errors.AsType[*child.TakenError](err); ok {
		return workload.Taken(taken), nil
	}
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return workload.State{Reason: workload.ReasonRefused, Message: err.Error()}, nil
	}
	if err != nil {
		return workload.State{}, err
	}
	return c.judge(s, set)
}

// apply goes from what a server needs to what starts it.
func (c *Clients) apply(ctx context.Context, s servers) (*appsv1.StatefulSet, error) {
	ns := s.place.Namespace
	_, err := child.Ensure(ctx, s.owned("Secret"), c.Secrets.Secrets(ns), c.Kube.CoreV1().Secrets(ns), s.fillSecret(c.Now()))
	if err != nil {
		return nil, err
	}
	_, err = child.Ensure(ctx, s.owned("Service"), c.Services.Services(ns), c.Kube.CoreV1().Services(ns), s.fillService)
	if err != nil {
		return nil, err
	}
	if s.replicas() > 1 {
		budgets := c.Kube.PolicyV1().PodDisruptionBudgets(ns)
		if _, err := child.Ensure(ctx, s.owned("PodDisruptionBudget"), c.Budgets.PodDisruptionBudgets(ns), budgets, s.fillBudget); err != nil {
			return nil, err
		}
	}
	return child.Ensure(ctx, s.owned("StatefulSet"), c.StatefulSets.StatefulSets(ns), c.Kube.AppsV1().StatefulSets(ns), s.fillStatefulSet(c.Image, c.PullSecrets))
}

// judge says how many servers are ready, and what keeps one of the others from it.
func (c *Clients) judge(s servers, set *appsv1.StatefulSet) (workload.State, error) {
	pods, err := c.Pods.Pods(s.place.Namespace).List(labels.SelectorFromSet(s.selector()))
	if err != nil {
		return workload.State{}, err
	}
	byName := map[string]*corev1.Pod{}
	for _, p := range pods {
		if metav1.IsControlledBy(p, set) {
			byName[p.Name] = p
		}
	}
	ready, why, runs := 0, "", true
	for i := range s.replicas() {
		name := s.place.member(i)
		p := byName[name]
		switch {
		case p == nil:
			// What refuses it, a quota for example, stands in an Event of the set and nowhere else.
			if why == "" {
				why = fmt.Sprintf("there is no pod %s yet; if it does not come, see kubectl -n %s describe statefulset %s", name, set.Namespace, set.Name)
			}
		case isReady(p):
			ready++
		case why == "":
			if why = workload.NotRunning(p); why != "" {
				runs = false
			} else {
				why = fmt.Sprintf("pod %s is not ready yet", name)
			}
		}
	}
	switch message := fmt.Sprintf("%d of %d servers are ready: %s", ready, s.replicas(), why); {
	case ready == s.replicas():
		return workload.State{Ready: true}, nil
	case runs:
		return workload.State{Reason: ReasonStarting, Message: message}, nil
	default:
		return workload.State{Reason: ReasonNotRunning, Message: message}, nil
	}
}

func isReady(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
