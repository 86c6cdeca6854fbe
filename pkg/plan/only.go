package plan

import "github.com/openfunction/events/pkg/apis/events/v1alpha1"

// CompileBus compiles one EventBus or, without a namespace, ClusterEventBus, whether it is used or not. The bus is nil when there are problems.
func CompileBus(kind, namespace, name string, spec *v1alpha1.EventBusSpec, opts Options) (*Bus, []Problem) {
	c := &compiler{opts: opts, buses: map[object]*bus{}}
	o := object{kind, namespace, name}
	c.addBus(o, spec)
	if len(c.problems) > 0 {
		sortProblems(c.problems)
		return nil, c.problems
	}
	return &c.buses[o].plan, nil
}

// Broker is a declared bus as far as SameBroker compares it: no Secret is read, and what is wrong with it does not matter.
func Broker(kind, namespace, name string, spec *v1alpha1.EventBusSpec) Bus {
	c := &compiler{opts: Options{Secret: func(_, _, _ string) (string, error) { return "", nil }}, buses: map[object]*bus{}}
	o := object{kind, namespace, name}
	c.addBus(o, spec)
	return c.buses[o].plan
}
