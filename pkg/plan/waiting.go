package plan

import (
	"slices"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// Declared returns a plan in which everything that the EventSources and Triggers of o declare is waiting, whatever it is: of what runs for
// them, that goes on which they still declare.
func Declared(o Objects) *Plan {
	c := &compiler{}
	for _, es := range o.EventSources {
		c.wait(es, "")
	}
	for _, t := range o.Triggers {
		for i, id := range subscriberIDs(t) {
			s := Subscriber{ID: id, Trigger: t.Namespace + "/" + t.Name, Condition: t.Spec.Subscribers[i].Condition}
			c.plan.Waiting = append(c.plan.Waiting, s)
		}
	}
	c.plan.Remembered = remembered(o)
	c.plan.sort()
	return &c.plan
}

// remembered are the subscriptions that the statuses of the objects of o name.
func remembered(o Objects) []Subscriber {
	var all []Subscriber
	add := func(status *v1alpha1.WorkloadStatus) {
		for _, s := range status.Subscriptions {
			all = append(all, Subscriber{ID: s.Name, Key: s.Key})
		}
	}
	for _, es := range o.EventSources {
		add(&es.Status.WorkloadStatus)
	}
	for _, t := range o.Triggers {
		add(&t.Status.WorkloadStatus)
	}
	return all
}

// Postpone returns p with the sources and subscribers waiting whose owner is among those for whom it is true.
func Postpone(p *Plan, who func(owner string) bool) *Plan {
	later := &Plan{
		Buses: p.Buses, Waiting: slices.Clone(p.Waiting), WaitingSources: slices.Clone(p.WaitingSources), Remembered: p.Remembered,
	}
	for _, s := range p.Sources {
		if who(s.Owner()) {
			later.WaitingSources = append(later.WaitingSources, s.waiting())
		} else {
			later.Sources = append(later.Sources, s)
		}
	}
	for _, s := range p.Subscribers {
		if who(s.Owner()) {
			later.Waiting = append(later.Waiting, s.waiting())
		} else {
			later.Subscribers = append(later.Subscribers, s)
		}
	}
	later.sort()
	return later
}

// Waits tells whether something that p declares cannot run just now.
func (p *Plan) Waits() bool { return len(p.Waiting)+len(p.WaitingSources) > 0 }

// wait makes everything that es declares wait.
func (c *compiler) wait(es *v1alpha1.EventSource, why string) {
	for event, kinds := range events(es) {
		for _, kind := range kinds {
			c.plan.WaitingSources = append(c.plan.WaitingSources, Source{Namespace: es.Namespace, EventSource: es.Name, Event: event, Kind: kind, Why: why})
		}
		if es.Spec.Sink != nil {
			c.plan.Waiting = append(c.plan.Waiting, sinkSubscriber(Subscriber{}, es, event).waiting())
		}
	}
}

// waiting is what is known of s as long as it cannot run.
func (s *Source) waiting() Source {
	return Source{Namespace: s.Namespace, EventSource: s.EventSource, Event: s.Event, Kind: s.Kind, Why: s.Why}
}

// waiting is what is known of s as long as it cannot run.
func (s *Subscriber) waiting() Subscriber {
	return Subscriber{ID: s.ID, Key: s.Key, Trigger: s.Trigger, EventSource: s.EventSource, Inputs: s.Inputs, Condition: s.Condition}
}
