package objects

import (
	"context"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"knative.dev/pkg/apis"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// declared is an EventBus or, without a namespace, a ClusterEventBus.
type declared struct {
	namespace, name string
	spec            *v1alpha1.EventBusSpec
	status          *v1alpha1.EventBusStatus
}

func (d *declared) kind() string {
	if d.namespace == "" {
		return "ClusterEventBus"
	}
	return "EventBus"
}

// String is plan.Bus.Name.
func (d *declared) String() string {
	if d.namespace == "" {
		return "ClusterEventBus " + d.name
	}
	return "EventBus " + d.namespace + "/" + d.name
}

func eventBus(o *v1alpha1.EventBus) *declared {
	return &declared{o.Namespace, o.Name, &o.Spec, &o.Status}
}

func clusterEventBus(o *v1alpha1.ClusterEventBus) *declared {
	return &declared{"", o.Name, &o.Spec, &o.Status}
}

// lookup returns the EventBus that the objects of a namespace mean, or else the ClusterEventBus. It is nil when there is none.
func (r *Reader) lookup(namespace, name string) (*declared, error) {
	eb, err := r.eventBuses.EventBuses(namespace).Get(name)
	if err == nil {
		return eventBus(eb), nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, err
	}
	ceb, err := r.clusterEventBuses.Get(name)
	if err == nil {
		return clusterEventBus(ceb), nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, err
	}
	return nil, nil
}

// check returns the spec of d with its defaults, and what keeps everybody from using the bus.
func (d *declared) check(ctx context.Context) (v1alpha1.EventBusSpec, []plan.Problem) {
	b := &v1alpha1.EventBus{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: d.name}, Spec: *d.spec.DeepCopy()}
	b.SetDefaults(ctx)
	var problems []plan.Problem
	for _, p := range v1alpha1.Flatten(b.Validate(ctx).Filter(apis.ErrorLevel)) {
		problems = append(problems, d.problem(p.Path, plan.ReasonInvalid, p.Message))
	}
	return b.Spec, problems
}

func (d *declared) problem(path, reason, message string) plan.Problem {
	return plan.Problem{Kind: d.kind(), Namespace: d.namespace, Name: d.name, Path: path, Reason: reason, Message: message}
}

// EventBus compiles b, whether it is used or not. It is nil if it cannot be used; then there are problems. An error means that the API
// server could not be asked.
func (r *Reader) EventBus(ctx context.Context, b *v1alpha1.EventBus) (*plan.Bus, []plan.Problem, error) {
	return r.compileBus(ctx, eventBus(b))
}

// ClusterEventBus does the same for b as EventBus.
func (r *Reader) ClusterEventBus(ctx context.Context, b *v1alpha1.ClusterEventBus) (*plan.Bus, []plan.Problem, error) {
	return r.compileBus(ctx, clusterEventBus(b))
}

func (r *Reader) compileBus(ctx context.Context, d *declared) (*plan.Bus, []plan.Problem, error) {
	spec, problems := d.check(ctx)
	if problems != nil {
		return nil, problems, nil
	}
	s := &scope{r: r, ctx: ctx, parent: &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: d.name}}}
	b, problems := plan.CompileBus(d.kind(), d.namespace, d.name, &spec, s.options())
	if s.failure != nil {
		return nil, nil, s.failure
	}
	return b, problems, nil
}

// use adds the bus that the object names. If there is none, it adds all that it could name, for its problem to list.
func (s *scope) use(name string) {
	d, err := s.r.lookup(s.namespace, name)
	s.fail(err)
	if d == nil {
		s.addAll()
		return
	}
	s.compiled.BusName, s.compiled.BusReady = d.String(), d.status.GetCondition(apis.ConditionReady)
	spec, problems := d.check(s.ctx)
	if problems != nil {
		s.unusable = problems[0].Path + ": " + problems[0].Message
		s.addName(d)
		return
	}
	s.compiled.BusSpec = &spec
	s.addBus(d, spec)
}

func (s *scope) addAll() {
	ebs, err := s.r.eventBuses.EventBuses(s.namespace).List(labels.Everything())
	s.fail(err)
	for _, o := range ebs {
		s.addName(eventBus(o))
	}
	cebs, err := s.r.clusterEventBuses.List(labels.Everything())
	s.fail(err)
	for _, o := range cebs {
		s.addName(clusterEventBus(o))
	}
}

// addName adds a bus of which only the name matters: it compiles whatever it is, and reads no Secrets.
func (s *scope) addName(d *declared) {
	s.addBus(d, v1alpha1.EventBusSpec{JetStream: &v1alpha1.JetStreamSpec{}})
}

// addBus adds d with a spec, unless it was added before.
func (s *scope) addBus(d *declared, spec v1alpha1.EventBusSpec) {
	if slices.Contains(s.buses, d.String()) {
		return
	}
	s.buses = append(s.buses, d.String())
	meta := metav1.ObjectMeta{Namespace: d.namespace, Name: d.name}
	if d.namespace == "" {
		s.objects.ClusterEventBuses = append(s.objects.ClusterEventBuses, &v1alpha1.ClusterEventBus{ObjectMeta: meta, Spec: spec})
	} else {
		s.objects.EventBuses = append(s.objects.EventBuses, &v1alpha1.EventBus{ObjectMeta: meta, Spec: spec})
	}
}

// Users returns who uses the bus that plans call by this name ("EventBus ns/name" or "ClusterEventBus name"): those that name it, where
// an EventBus of their namespace comes before a ClusterEventBus. The objects are the listers': they are not to be changed.
func (r *Reader) Users(bus string) (eventSources []*v1alpha1.EventSource, triggers []*v1alpha1.Trigger, err error) {
	kind, name, _ := strings.Cut(bus, " ")
	var uses func(namespace, named string) bool
	namespace := metav1.NamespaceAll
	if kind == "EventBus" {
		namespace, name, _ = strings.Cut(name, "/")
		uses = func(_, named string) bool { return named == name }
	} else {
		uses = func(namespace, named string) bool {
			if named != name {
				return false
			}
			_, err := r.eventBuses.EventBuses(namespace).Get(name)
			return apierrors.IsNotFound(err)
		}
	}
	allEventSources, err := r.eventSources.EventSources(namespace).List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	for _, es := range allEventSources {
		if uses(es.Namespace, es.Spec.BusName()) {
			eventSources = append(eventSources, es)
		}
	}
	allTriggers, err := r.triggers.Triggers(namespace).List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	for _, t := range allTriggers {
		if uses(t.Namespace, t.Spec.BusName()) {
			triggers = append(triggers, t)
		}
	}
	return eventSources, triggers, nil
}
