package standalone

import (
	"context"
	"slices"
	"strings"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// Compile turns the valid objects into a plan. The problems are those of the files and those between objects, such as a bus that
// nobody declares, in the order of the files. With a problem that is not a warning the plan is not whole; what lacks a Secret waits in it.
func (c *Config) Compile(sinks *Sinks) (*plan.Plan, []Problem) {
	p, found := plan.Compile(c.objects(), plan.Options{Resolve: sinks.Resolve, Secret: c.secret, OneReader: true})
	problems := slices.Clone(c.Problems)
	for _, f := range found {
		if c.follows(f) || f.Reason == plan.ReasonBusNotReady { // the bus says it itself
			continue
		}
		p := c.locate(f)
		p.Waits = f.Reason == plan.ReasonSecretNotFound || f.Reason == plan.ReasonSecretInvalid
		problems = append(problems, p)
	}
	c.sort(problems)
	return p, problems
}

// Check is Compile for those who will not run the plan: where a sink leads does not matter, and what is kept elsewhere with good reason
// is a warning: a Secret, though not a key of one that the files have, and the bus named default when they declare no bus at all.
func (c *Config) Check() []Problem {
	_, found := plan.Compile(c.objects(), plan.Options{Resolve: new(Sinks).Resolve, Secret: c.secret, OneReader: true})
	problems := slices.Clone(c.Problems)
	for _, f := range found {
		if c.follows(f) {
			continue
		}
		p := c.locate(f)
		p.Warning = f.Reason == plan.ReasonSecretNotFound && strings.Contains(f.Message, noSecret) || f.Reason == plan.ReasonBusNotFound && c.busIsElsewhere(p.Object)
		if o := c.byName[p.Object]; o != nil && !p.Warning {
			o.Invalid = true
		}
		problems = append(problems, p)
	}
	c.sort(problems)
	return problems
}

// addDefaultBus declares a bus in this process under the name default, if that is all that the files lack: objects use the bus of that
// name, and the files declare no bus at all.
func (c *Config) addDefaultBus() {
	if !c.lacksDefaultBus() {
		return
	}
	b := &v1alpha1.ClusterEventBus{Spec: v1alpha1.EventBusSpec{Embedded: &v1alpha1.EmbeddedSpec{}}}
	b.Name = defaultBus
	b.SetDefaults(context.Background())
	o := &Object{Name: objectName("ClusterEventBus", "", defaultBus), value: b, tree: &tree{}}
	c.Objects = append(c.Objects, o)
	c.byName[o.Name] = o
	c.addedBus = true
}

// lacksDefaultBus tells whether addDefaultBus would help.
func (c *Config) lacksDefaultBus() bool {
	for _, p := range c.Problems {
		if !p.Warning {
			return false
		}
	}
	return slices.ContainsFunc(c.Objects, func(o *Object) bool { return c.busIsElsewhere(o.Name) })
}

// busIsElsewhere tells whether the files leave buses to someone else: the object uses the one that is the default, and they declare none.
func (c *Config) busIsElsewhere(object string) bool {
	for _, o := range c.Objects {
		switch o.value.(type) {
		case *v1alpha1.EventBus, *v1alpha1.ClusterEventBus:
			return false
		}
	}
	o := c.byName[object]
	if o == nil {
		return false
	}
	switch v := o.value.(type) {
	case *v1alpha1.EventSource:
		return v.Spec.EventBus == defaultBus
	case *v1alpha1.Trigger:
		return v.Spec.EventBus == defaultBus
	}
	return false
}

// follows tells whether a problem is only that an object was left out, because it has a problem of its own.
func (c *Config) follows(p plan.Problem) bool {
	kind := ""
	switch p.Reason {
	case plan.ReasonBusNotFound, plan.ReasonBusNotReady, plan.ReasonBusMismatch:
		kind = "EventBus "
	case plan.ReasonEventSourceNotFound, plan.ReasonEventNotFound:
		kind = "EventSource "
	case plan.ReasonSecretNotFound:
		kind = "Secret "
	default:
		return false
	}
	return slices.ContainsFunc(c.Problems, func(q Problem) bool {
		return !q.Warning && (q.Object == "" || strings.Contains(q.Object, kind))
	})
}

// locate says in which file and line the problem is.
func (c *Config) locate(f plan.Problem) Problem {
	p := Problem{Object: objectName(f.Kind, f.Namespace, f.Name), Path: f.Path, Message: f.Message}
	if o := c.byName[p.Object]; o != nil {
		p.File, p.Line = o.File, o.tree.line(o.root, f.Path)
	}
	return p
}
