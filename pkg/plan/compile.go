package plan

import (
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// Objects are what was declared: defaulted, valid, and no two of a kind with one namespace and name. Compile does not change them.
type Objects struct {
	EventSources      []*v1alpha1.EventSource
	EventBuses        []*v1alpha1.EventBus
	ClusterEventBuses []*v1alpha1.ClusterEventBus
	Triggers          []*v1alpha1.Trigger
}

// Options are how Compile learns what the objects only refer to.
type Options struct {
	// Resolve says where a destination of an object in namespace leads. An error is a user's mistake or a "not yet".
	Resolve func(d *duckv1.Destination, namespace string) (*Target, error)
	// Secret returns the value of a key of a Secret. Its error must not hold one.
	Secret func(namespace, name, key string) (string, error)
	// Embedded says where the servers of a bus with spec.embedded are, which kind, namespace and name tell. An error is a "not yet". Nil
	// means that they are part of the process that runs the plan.
	Embedded func(kind, namespace, name string, spec *v1alpha1.EmbeddedSpec) (*JetStream, error)
	// OneReader tells that who reads the problems may know of all objects: they name those of other namespaces too.
	OneReader bool
}

// Compile returns the plan of everything that can run and the problems of everything that cannot, both sorted. It is a pure function:
// the same objects, in any order, give the same plan, as long as opts answers the same.
func Compile(o Objects, opts Options) (*Plan, []Problem) {
	c := &compiler{opts: opts, buses: map[object]*bus{}, eventSources: map[object]*v1alpha1.EventSource{}}
	for _, b := range o.EventBuses {
		c.addBus(object{"EventBus", b.Namespace, b.Name}, &b.Spec)
	}
	for _, b := range o.ClusterEventBuses {
		c.addBus(object{"ClusterEventBus", "", b.Name}, &b.Spec)
	}
	for _, es := range o.EventSources {
		c.eventSources[object{"EventSource", es.Namespace, es.Name}] = es
	}
	for _, es := range o.EventSources {
		c.eventSource(es)
	}
	for _, t := range o.Triggers {
		c.trigger(t)
	}
	c.plan.Remembered = remembered(o)
	return c.result()
}

// compiler holds what one call of Compile knows so far.
type compiler struct {
	opts         Options
	buses        map[object]*bus
	eventSources map[object]*v1alpha1.EventSource

	plan     Plan
	problems []Problem
}

// result adds the buses that are used, and sorts.
func (c *compiler) result() (*Plan, []Problem) {
	used := map[string]bool{}
	for _, s := range c.plan.Sources {
		used[s.Bus] = true
	}
	for _, s := range c.plan.Subscribers {
		used[s.Bus] = true
	}
	for _, b := range c.buses {
		if used[b.plan.Name] {
			c.plan.Buses = append(c.plan.Buses, b.plan)
		}
	}
	c.plan.sort()
	sortProblems(c.problems)
	return &c.plan, c.problems
}
