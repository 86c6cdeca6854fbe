package objects

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// Event is one event of an EventSource.
type Event struct {
	Name, Kind string
	// Workloads are who receive it, "" for the shared gateway: one, or the members of a group, by number.
	Workloads []string
}

// Events returns the events that es declares, by name, then kind.
func Events(es *v1alpha1.EventSource) []Event {
	var all []Event
	add := func(kind, name string) {
		all = append(all, Event{Name: name, Kind: kind, Workloads: []string{workload.Name("eventsource", es.Name, kind, name)}})
	}
	for name := range es.Spec.HTTP {
		all = append(all, Event{Name: name, Kind: plan.KindHTTP, Workloads: []string{""}})
	}
	for name := range es.Spec.Kafka {
		add(plan.KindKafka, name)
	}
	for name := range es.Spec.Cron {
		add(plan.KindCron, name)
	}
	for name := range es.Spec.Redis {
		add(plan.KindRedis, name)
	}
	for name, m := range es.Spec.MQTT {
		add(plan.KindMQTT, name)
		for n := 1; n < m.Members(); n++ {
			e := &all[len(all)-1]
			e.Workloads = append(e.Workloads, MemberWorkload(es, name, n))
		}
	}
	slices.SortFunc(all, func(a, b Event) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind)) })
	return all
}

// MemberWorkload is the name of the workload of a member of an MQTT event's group, from 1 on. The number is not at the end, where the name
// of another event may have one.
func MemberWorkload(es *v1alpha1.EventSource, event string, n int) string {
	return workload.Name("eventsource", es.Name, plan.KindMQTT+strconv.Itoa(n), event)
}

// SinkWorkload is the name of the workload that runs the sink of es where the shared gateway cannot.
func SinkWorkload(es *v1alpha1.EventSource) string { return workload.Name("eventsource-sink", es.Name) }

// Split divides the plan of es by who runs its parts: its workloads, by name, and the shared gateway, whose part may be empty. The sink of
// an EventSource with a bus is never run by those who receive its events: its subscriptions must not move when an event gets another
// kind, since whoever gives one up removes it from the bus. It is the gateway's, unless a subscription can only belong to one process: the
// gateway has several, and each would deliver. While it waits, whoever of the two runs it goes on.
func Split(es *v1alpha1.EventSource, p *plan.Plan) (workloads map[string]*plan.Plan, shared *plan.Plan) {
	workloads, shared = map[string]*plan.Plan{}, &plan.Plan{}
	part := func(name string) *plan.Plan {
		if name == "" {
			return shared
		}
		if workloads[name] == nil {
			workloads[name] = &plan.Plan{}
		}
		return workloads[name]
	}
	receive := map[[2]string][]string{}
	for _, e := range Events(es) {
		receive[[2]string{e.Name, e.Kind}] = e.Workloads
	}
	for _, s := range p.Sources {
		names := receive[[2]string{s.Event, s.Kind}]
		for n, name := range names {
			if s.MQTT != nil && s.MQTT.Group != "" {
				m := *s.MQTT
				m.Member, m.Members = n, len(names)
				s.MQTT = &m
			}
			w := part(name)
			w.Sources = append(w.Sources, s)
		}
	}
	switch {
	case len(p.Subscribers) == 0:
	case workload.Alone(&plan.Plan{Buses: p.Buses, Subscribers: p.Subscribers, Retired: p.Retired}):
		part(SinkWorkload(es)).Subscribers = p.Subscribers
	default:
		shared.Subscribers = p.Subscribers
	}
	for _, s := range p.WaitingSources {
		for _, name := range receive[[2]string{s.Event, s.Kind}] {
			w := part(name)
			w.WaitingSources = append(w.WaitingSources, s)
		}
	}
	if len(p.Waiting) > 0 {
		part(SinkWorkload(es)).Waiting, shared.Waiting = p.Waiting, p.Waiting
	}
	if w := workloads[SinkWorkload(es)]; w != nil {
		w.Remembered = p.Remembered
	}
	shared.Remembered = p.Remembered
	for _, w := range workloads {
		addBuses(w, p)
	}
	addBuses(shared, p)
	return workloads, shared
}

// addBuses adds those buses of all that the sources and subscribers of p use.
func addBuses(p, all *plan.Plan) {
	for _, b := range all.Buses {
		if slices.ContainsFunc(p.Sources, func(s plan.Source) bool { return s.Bus == b.Name }) ||
			slices.ContainsFunc(p.Subscribers, func(s plan.Subscriber) bool { return s.Bus == b.Name }) {
			p.Buses = append(p.Buses, b)
		}
	}
}
