// Package dapr builds the Dapr Components through which producers and functions reach what an object uses.
package dapr

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// Resource is what the API server calls Components.
var Resource = schema.GroupVersionResource{Group: "dapr.io", Version: "v1alpha1", Resource: "components"}

// Part is something that an object uses: its bus, one of its sinks, or one of its events.
type Part struct {
	// Name is that of the Component, whether or not there is one.
	Name string
	// Bus tells that it is the object's bus.
	Bus bool
	// Sink is where it leads, and Path its field, if it is a sink.
	Sink *v1alpha1.Sink
	Path string
	// Kind and Event are the event's, if it is one.
	Kind, Event string
}

// EventSourceParts returns the parts of es, which is defaulted: its bus, its events by kind and name, and its sink.
func EventSourceParts(es *v1alpha1.EventSource) []Part {
	var parts []Part
	if es.Spec.EventBus != "" {
		parts = append(parts, Part{Name: name("eventbus-eventsource", es.Name), Bus: true})
	}
	add := func(kind string, events []string) {
		for _, event := range events {
			parts = append(parts, Part{Name: name("eventsource", es.Name, kind, event), Kind: kind, Event: event})
		}
	}
	add(plan.KindCron, slices.Sorted(maps.Keys(es.Spec.Cron)))
	add(plan.KindHTTP, slices.Sorted(maps.Keys(es.Spec.HTTP)))
	add(plan.KindKafka, slices.Sorted(maps.Keys(es.Spec.Kafka)))
	add(plan.KindMQTT, slices.Sorted(maps.Keys(es.Spec.MQTT)))
	add(plan.KindRedis, slices.Sorted(maps.Keys(es.Spec.Redis)))
	if es.Spec.Sink != nil {
		parts = append(parts, Part{Name: name("eventsource-sink", es.Name), Sink: es.Spec.Sink, Path: "spec.sink"})
	}
	return parts
}

// TriggerParts returns the parts of t, which is defaulted: its bus, and its sinks, each once, sorted by what they lead to.
func TriggerParts(t *v1alpha1.Trigger) []Part {
	sinks := map[string]Part{}
	for i, s := range t.Spec.Subscribers {
		if s.Sink != nil {
			sinks[identity(s.Sink, t.Namespace)] = Part{Sink: s.Sink, Path: fmt.Sprintf("spec.subscribers[%d].sink", i)}
		}
	}
	parts := []Part{{Name: name("eventbus-trigger", t.Name), Bus: true}}
	taken := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(sinks)) {
		p := sinks[id]
		p.Name = sinkName(t, p.Sink)
		if taken[p.Name] { // by one of another kind, or one whose namespace and name make up the same words
			p.Name = sinkName(t, p.Sink, hash(id))
		}
		taken[p.Name] = true
		parts = append(parts, p)
	}
	return parts
}

// maxName is how long the name of a custom resource may be.
const maxName = 253

// name is whole where the name of a workload is shortened already: people and their applications refer to Components by it.
func name(parts ...string) string {
	whole := strings.Join(parts, "-")
	if len(whole) > maxName {
		return kmeta.ChildName(whole, "")
	}
	return whole
}

// sinkName returns the name of a sink's Component. A URI is in it as a hash, and so is where one is read from.
func sinkName(t *v1alpha1.Trigger, d *v1alpha1.Sink, more ...string) string {
	parts := []string{"trigger-sink", t.Name}
	if r := d.Ref; r != nil {
		parts = append(parts, cmp.Or(r.Namespace, t.Namespace), r.Name)
	} else {
		parts = append(parts, t.Namespace)
	}
	if !d.URI.IsEmpty() {
		parts = append(parts, hash(d.URI.String()))
	}
	if from := d.URIFrom; from != nil {
		parts = append(parts, hash(from.Name+"\x00"+from.Key))
	}
	return name(append(parts, more...)...)
}

// identity is the same for destinations that lead to the same.
func identity(d *v1alpha1.Sink, namespace string) string {
	var parts []string
	if from := d.URIFrom; from != nil {
		parts = append(parts, from.Name, from.Key)
	}
	if r := d.Ref; r != nil {
		parts = append(parts, cmp.Or(r.Namespace, namespace), r.Name, r.Kind, cmp.Or(r.APIVersion, r.Group))
		if r.Address != nil {
			parts = append(parts, *r.Address)
		}
	}
	return strings.Join(append(parts, d.URI.String()), "\x00")
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// EventSource returns the Components of es. One is left out that Dapr could not use: that of an http event, of a bus that is nil or
// embedded, whose servers have an authority of their own; of a server that wants credentials or TLS in a way that Dapr has no field for, or
// whose URL has a password; and of the sink while sinkURL is empty, unless Dapr itself reads the URL from a Secret.
//
// Dapr reads the Secrets of a Component in the Component's namespace, so those that a ClusterEventBus names have to be there too.
func EventSource(es *v1alpha1.EventSource, bus *v1alpha1.EventBusSpec, sinkURL string) []*unstructured.Unstructured {
	var components []*unstructured.Unstructured
	for _, p := range EventSourceParts(es) {
		group := es.Namespace + "-" + p.Name
		var s *spec
		switch {
		case p.Bus:
			s = busSpec(bus, group).discreet()
		case p.Sink != nil:
			s = sinkSpec(p.Sink, sinkURL)
		default:
			s = eventSpec(&es.Spec, p.Kind, p.Event, group).discreet()
		}
		if s != nil {
			components = append(components, s.component(es.Namespace, p.Name))
		}
	}
	return components
}

// Trigger returns the Components of t. url tells where a sink leads; while that is not known it returns "". What is left out, and where
// Secrets are read, is as with EventSource.
func Trigger(t *v1alpha1.Trigger, bus *v1alpha1.EventBusSpec, url func(sink *v1alpha1.Sink) string) []*unstructured.Unstructured {
	var components []*unstructured.Unstructured
	for _, p := range TriggerParts(t) {
		var s *spec
		if p.Bus {
			s = busSpec(bus, t.Namespace+"-"+p.Name).discreet()
		} else {
			s = sinkSpec(p.Sink, url(p.Sink))
		}
		if s != nil {
			components = append(components, s.component(t.Namespace, p.Name))
		}
	}
	return components
}
