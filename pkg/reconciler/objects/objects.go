// Package objects reads declared objects and compiles them, with what they refer to, into plans.
package objects

import (
	"cmp"
	"context"
	"net/url"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"knative.dev/pkg/apis"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/resolver"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/config"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
	listers "github.com/openfunction/events/pkg/client/listers/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// Reader reads from listers, and Secrets from the API server. It tracks where the sinks of an object lead and the Secrets that it names, so
// that a change there reconciles the object again. It is safe for concurrent use.
type Reader struct {
	eventSources      listers.EventSourceLister
	triggers          listers.TriggerLister
	eventBuses        listers.EventBusLister
	clusterEventBuses listers.ClusterEventBusLister

	kube     kubernetes.Interface
	tracker  tracker.Interface
	resolver *resolver.URIResolver
	within   func(context.Context) context.Context
}

// NewReader returns a Reader with the listers and clients of ctx, which is one of WithSecrets.
func NewReader(ctx context.Context, tracker tracker.Interface) *Reader {
	onSecret(ctx, tracker)
	return &Reader{
		eventSources:      eventsource.Get(ctx).Lister(),
		triggers:          trigger.Get(ctx).Lister(),
		eventBuses:        eventbus.Get(ctx).Lister(),
		clusterEventBuses: clustereventbus.Get(ctx).Lister(),
		kube:              kubeclient.Get(ctx),
		tracker:           tracker,
		resolver:          resolver.NewURIResolverFromTracker(ctx, tracker),
		within:            func(ctx context.Context) context.Context { return ctx },
	}
}

// OnDefaults has r fill in the cluster's defaults of deliveries, and calls changed when they change. It is called before r is used.
func (r *Reader) OnDefaults(ctx context.Context, cmw configmap.Watcher, changed func()) {
	settings := config.NewStore(logging.FromContext(ctx), func(string, any) { changed() })
	settings.Watch(cmw)
	r.within = settings.DeliveryToContext
}

// Compiled is what one object asks for.
type Compiled struct {
	// Plan is only what this object asks for, and its bus, and what of it waits. It is never nil.
	Plan *plan.Plan
	// Problems are those of this object, sorted.
	Problems []plan.Problem
	// BusName is the plan.Bus.Name of the bus that the object uses, "" when it uses none or there is none.
	BusName string
	// BusReady is the Ready condition of that bus, nil when it has none yet.
	BusReady *apis.Condition
	// BusSpec is what that bus declares, with its defaults, nil when it can be used by nobody.
	BusSpec *v1alpha1.EventBusSpec
	// Invalid tells that the object is not valid by today's rules. Nothing of it is compiled, and what runs for it and is declared goes on.
	Invalid bool

	owner     string
	namespace string
	targets   map[string]target
}

// URL is where d, a sink of the object, leads, "" when that is not known. It is written where more people read than may read the plan: a user
// name and password are left out, and what is in a Secret is not known.
func (c *Compiled) URL(d *v1alpha1.Sink) string {
	t := c.targets[key(&d.Destination, c.namespace)].plan
	if t == nil || d.URIFrom != nil {
		return ""
	}
	u, err := url.Parse(t.URL)
	switch {
	case err != nil:
		return ""
	case u.User == nil:
		return t.URL
	}
	u.User = nil
	return u.String()
}

// EventSource compiles es, which it does not change. An error means that the API server could not be asked; it will pass.
func (r *Reader) EventSource(ctx context.Context, es *v1alpha1.EventSource) (*Compiled, error) {
	es = es.DeepCopy()
	es.SetDefaults(r.within(ctx))
	s := r.newScope(ctx, "EventSource", es)
	s.objects.EventSources = []*v1alpha1.EventSource{es}
	if s.invalid(es.Validate(ctx)) {
		return s.compiled, nil
	}
	if es.Spec.EventBus != "" {
		s.use(es.Spec.EventBus)
	}
	s.compile()
	return s.result()
}

// Trigger compiles t, which it does not change. An error means that the API server could not be asked; it will pass.
func (r *Reader) Trigger(ctx context.Context, t *v1alpha1.Trigger) (*Compiled, error) {
	t = t.DeepCopy()
	t.SetDefaults(r.within(ctx))
	s := r.newScope(ctx, "Trigger", t)
	s.objects.Triggers = []*v1alpha1.Trigger{t}
	if s.invalid(t.Validate(ctx)) {
		return s.compiled, nil
	}
	s.use(t.Spec.EventBus)
	s.addInputs(t)
	s.compile()
	return s.result()
}

// addInputs adds the EventSources of t's inputs, with their buses. If one is missing all are added, so that its problem can say which one
// was meant.
func (s *scope) addInputs(t *v1alpha1.Trigger) {
	all := map[*v1alpha1.EventSource]bool{}
	missing := false
	for _, in := range t.Spec.Inputs {
		es, err := s.r.eventSources.EventSources(in.Namespace).Get(in.EventSource)
		switch {
		case apierrors.IsNotFound(err):
			missing = true
		case err != nil:
			s.fail(err)
		default:
			all[es] = true
		}
	}
	if missing {
		list, err := s.r.eventSources.List(labels.Everything())
		s.fail(err)
		for _, es := range list {
			all[es] = true
		}
	}
	for es := range all {
		o := outline(es)
		if o.Spec.EventBus != "" {
			b, err := s.r.lookup(o.Namespace, o.Spec.EventBus)
			s.fail(err)
			if b != nil {
				s.addName(b)
			}
		}
		s.objects.EventSources = append(s.objects.EventSources, o)
	}
}

// outline is what others need to know of es: it can be compiled without Secrets and sinks.
func outline(es *v1alpha1.EventSource) *v1alpha1.EventSource {
	o := &v1alpha1.EventSource{}
	o.Namespace, o.Name = es.Namespace, es.Name
	o.Spec = v1alpha1.EventSourceSpec{
		EventBus:          es.Spec.BusName(),
		AllowedNamespaces: es.Spec.AllowedNamespaces,
		HTTP:              names(es.Spec.HTTP),
		Kafka:             names(es.Spec.Kafka),
		Cron:              names(es.Spec.Cron),
		Redis:             names(es.Spec.Redis),
		MQTT:              names(es.Spec.MQTT),
	}
	return o
}

func names[T any](events map[string]*T) map[string]*T {
	m := make(map[string]*T, len(events))
	for name := range events {
		m[name] = nil
	}
	return m
}

// invalid reports whether err has errors, which are problems then; all that the object declares waits then.
func (s *scope) invalid(err *apis.FieldError) bool {
	for _, p := range v1alpha1.Flatten(err.Filter(apis.ErrorLevel)) {
		s.problem(p.Path, plan.ReasonInvalid, p.Message)
		s.compiled.Invalid = true
	}
	if s.compiled.Invalid {
		s.compiled.Plan = plan.Declared(s.objects)
	}
	return s.compiled.Invalid
}

func (s *scope) problem(path, reason, message string) {
	s.compiled.Problems = append(s.compiled.Problems, plan.Problem{
		Kind: s.kind, Namespace: s.namespace, Name: s.name, Path: path, Reason: reason, Message: message,
	})
}

// compile compiles what was added, and keeps what the object itself asks for.
func (s *scope) compile() {
	p, problems := plan.Compile(s.objects, s.options())
	for _, problem := range problems {
		if problem.Kind == s.kind && problem.Namespace == s.namespace && problem.Name == s.name {
			s.compiled.Problems = append(s.compiled.Problems, problem)
		}
	}
	if s.unusable != "" {
		s.problem("spec.eventBus", plan.ReasonBusNotReady, s.compiled.BusName+" cannot be used: "+s.unusable)
		p = plan.Postpone(p, func(string) bool { return true })
	}
	own, owner := s.compiled.Plan, s.compiled.owner
	own.Remembered = p.Remembered
	own.Sources, own.WaitingSources = sourcesOf(p.Sources, owner), sourcesOf(p.WaitingSources, owner)
	own.Subscribers, own.Waiting = subscribersOf(p.Subscribers, owner), subscribersOf(p.Waiting, owner)
	addBuses(own, p)
}

func sourcesOf(all []plan.Source, owner string) []plan.Source {
	return slices.DeleteFunc(all, func(s plan.Source) bool { return s.Owner() != owner })
}

func subscribersOf(all []plan.Subscriber, owner string) []plan.Subscriber {
	return slices.DeleteFunc(all, func(s plan.Subscriber) bool { return s.Owner() != owner })
}

func (s *scope) result() (*Compiled, error) {
	if s.failure != nil {
		return nil, s.failure
	}
	slices.SortFunc(s.compiled.Problems, func(a, b plan.Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return s.compiled, nil
}
