package eventsource

import (
	"fmt"
	"maps"
	"slices"

	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/network"
	"knative.dev/pkg/system"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/dapr"
	"github.com/openfunction/events/pkg/reconciler/objects"
)

// sinkPaths are the fields that SinkResolved is about.
var sinkPaths = []string{"spec.sink", "spec.deadLetterSink"}

// mark writes what o says into the status of es.
func mark(es *v1alpha1.EventSource, o *objects.Outcome) {
	s := &es.Status
	s.Address, s.SinkURI = address(es), nil
	if es.Spec.Sink != nil {
		s.SinkURI, _ = apis.ParseURL(o.URL(es.Spec.Sink)) // nil if it cannot be read, as if it were unknown
	}
	bus, sink := o.Bus(), sink(es, o)
	s.Mark(bus, sink, sources(es, o, sink))

	var components, workloads objects.Count
	for _, part := range dapr.EventSourceParts(es) {
		switch {
		case part.Bus:
			components.Add(bus.IsGood())
		case part.Sink != nil:
			components.Add(sink.IsGood())
		}
	}
	seen := map[string]bool{}
	for _, e := range objects.Events(es) {
		all := true
		for _, name := range e.Workloads {
			ready := o.States[name].Ready
			all = all && ready
			if !seen[name] {
				seen[name] = true
				workloads.Add(ready)
			}
		}
		components.Add(all && receives(o.Plan, e))
	}
	if sink, ok := o.States[objects.SinkWorkload(es)]; ok {
		workloads.Add(sink.Ready)
	}
	s.ComponentStatistics, s.WorkloadStatistics = components.String(), workloads.String()
}

func receives(p *plan.Plan, e objects.Event) bool {
	return slices.ContainsFunc(p.Sources, func(s plan.Source) bool { return s.Event == e.Name && s.Kind == e.Kind })
}

// address is where the first http event of es is posted, nil without one.
func address(es *v1alpha1.EventSource) *duckv1.Addressable {
	if len(es.Spec.HTTP) == 0 {
		return nil
	}
	u := apis.HTTP(network.GetServiceHostname("events-gateway", system.Namespace()))
	u.Path = "/" + es.Namespace + "/" + es.Name + "/" + slices.Min(slices.Collect(maps.Keys(es.Spec.HTTP)))
	return &duckv1.Addressable{URL: u}
}

// sink says whether it is known where the sinks of es lead.
func sink(es *v1alpha1.EventSource, o *objects.Outcome) v1alpha1.Verdict {
	if v, ok := o.Verdict(sinkPaths...); ok {
		return v
	}
	switch {
	case es.Spec.Sink == nil:
		return v1alpha1.NotUsed("spec.sink is not set")
	case o.Invalid:
		return objects.Unseen()
	case es.Spec.Sink.URIFrom != nil:
		from := es.Spec.Sink.URIFrom
		return v1alpha1.InSecret(fmt.Sprintf("the URL is in key %q of Secret %s", from.Key, from.Name))
	}
	return v1alpha1.Good()
}

// sources says whether every event is being received.
func sources(es *v1alpha1.EventSource, o *objects.Outcome, sink v1alpha1.Verdict) v1alpha1.Verdict {
	if v, ok := o.Others(append(sinkPaths, "spec.eventBus")...); ok {
		return v
	}
	if v, ok := o.Verdict("spec.eventBus"); ok {
		return v1alpha1.Pending(v.Reason, "no event is received until the bus can be used")
	}
	if es.Spec.EventBus == "" && !sink.IsGood() {
		return v1alpha1.Pending(sink.Reason, "no event is received until it is known where the sink leads")
	}
	return o.Running()
}
