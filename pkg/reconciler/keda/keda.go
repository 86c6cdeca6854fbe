// Package keda builds the KEDA ScaledObjects of workloads.
package keda

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/condition"
	"github.com/openfunction/events/pkg/plan"
)

// Resource is what the API server calls ScaledObjects.
var Resource = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

// EventSource returns the ScaledObject of the workload that reads a kafka event of es, nil if the event has no scaleOption.
func EventSource(es *v1alpha1.EventSource, event, workload string) *unstructured.Unstructured {
	k := es.Spec.Kafka[event]
	if k == nil || k.ScaleOption == nil {
		return nil
	}
	o, servers := k.ScaleOption, k.Brokers
	if brokers, err := v1alpha1.ParseBrokers(servers, "9092"); err == nil {
		servers = strings.Join(brokers, ",") // KEDA allows no spaces.
	}
	metadata := map[string]string{
		"bootstrapServers": servers,
		"topic":            cmp.Or(k.Topic, event),
		"consumerGroup":    cmp.Or(k.ConsumerGroup, plan.ConsumerGroup(es.Namespace, es.Name, event)),
	}
	if k.InitialOffset == "oldest" {
		metadata["offsetResetPolicy"] = "earliest" // which tells KEDA what is not read yet while the group has no offset
	}
	maps.Copy(metadata, o.Metadata)
	override(metadata, "topic", &o.Topic)
	override(metadata, "consumerGroup", &o.ConsumerGroup)
	metadata["lagThreshold"] = o.LagThreshold

	s := scale{GenericScaleOption: o.GenericScaleOption}
	s.add("kafka", metadata)
	return s.object(es.Namespace, workload)
}

// Trigger returns the ScaledObject of the workload that runs the subscribers of t in p, nil if bus, which may be nil, has no scaleOption
// or there is nothing to scale. If it does not do all that scaleOption says, a sentence for people says why. Without minReplicaCount it
// keeps one replica: a subscription begins when its workload first runs, and KEDA would not wait for that.
func Trigger(t *v1alpha1.Trigger, bus *v1alpha1.EventBusSpec, p *plan.Plan, workload string) (*unstructured.Unstructured, string) {
	if bus == nil || bus.NATSStreaming == nil || bus.NATSStreaming.ScaleOption == nil {
		return nil, ""
	}
	o := bus.NATSStreaming.ScaleOption
	s := scale{GenericScaleOption: o.GenericScaleOption}
	s.MinReplicaCount = new(value(s.MinReplicaCount, 1))
	note := ""
	for _, sub := range p.Subscribers {
		n := natsStreaming(p, sub.Bus)
		if sub.Trigger != t.Namespace+"/"+t.Name || n == nil {
			continue
		}
		if !n.Queue {
			return nil, "it is not scaled: with the subscriptionType topic of its event bus a subscription belongs to one process; use queue"
		}
		c, err := condition.Parse(sub.Condition, inputs(sub))
		if err != nil {
			continue // It does not run.
		}
		if !c.Stateless() && value(s.MaxReplicaCount, 100) > 1 {
			s.MinReplicaCount, s.MaxReplicaCount = new(min(*s.MinReplicaCount, 1)), new(int32(1))
			note = fmt.Sprintf("it is not scaled beyond one replica: what the condition %q waits for could arrive at another one", sub.Condition)
		}
		if sub.Delivery.KeyOrder && value(s.MaxReplicaCount, 100) > 1 {
			s.MinReplicaCount, s.MaxReplicaCount = new(min(*s.MinReplicaCount, 1)), new(int32(1))
			note = "it is not scaled beyond one replica: delivery.ordering key needs all events of a key in one process"
		}
		for _, in := range sub.Inputs {
			if c.Mask(in.Name) != 0 {
				s.add("stan", stan(o, n, sub.ID, in.Topic))
			}
		}
	}
	if len(s.triggers) == 0 {
		return nil, ""
	}
	return s.object(t.Namespace, workload), note
}

// stan describes the durable queue group in which the gateway receives the events of a topic: it has the subscriber's id.
func stan(o *v1alpha1.NATSStreamingScaleOption, n *plan.NATSStreaming, id, topic string) map[string]string {
	metadata := map[string]string{"queueGroup": id, "durableName": n.Durable, "subject": topic}
	maps.Copy(metadata, o.Metadata)
	override(metadata, "queueGroup", o.QueueGroup)
	override(metadata, "durableName", o.DurableName)
	override(metadata, "subject", o.Subject)
	metadata["natsServerMonitoringEndpoint"] = o.NATSServerMonitoringEndpoint
	metadata["lagThreshold"] = o.LagThreshold
	return metadata
}

// natsStreaming returns the bus of that name, nil if it is of another kind.
func natsStreaming(p *plan.Plan, bus string) *plan.NATSStreaming {
	if i := slices.IndexFunc(p.Buses, func(b plan.Bus) bool { return b.Name == bus }); i >= 0 {
		return p.Buses[i].NATSStreaming
	}
	return nil
}

func inputs(s plan.Subscriber) []string {
	names := make([]string, len(s.Inputs))
	for i, in := range s.Inputs {
		names[i] = in.Name
	}
	return names
}

func override(metadata map[string]string, name string, with *string) {
	if with != nil && *with != "" {
		metadata[name] = *with
	}
}

func value(p *int32, byDefault int32) int32 {
	if p == nil {
		return byDefault
	}
	return *p
}

// scale is what a ScaledObject says.
type scale struct {
	v1alpha1.GenericScaleOption
	triggers []any
}

// add adds what KEDA looks at, unless it is there already.
func (s *scale) add(kind string, metadata map[string]string) {
	fields := map[string]any{}
	for name, value := range metadata {
		fields[name] = value
	}
	trigger := map[string]any{"type": kind, "metadata": fields}
	if a := s.AuthRef; a != nil {
		ref := map[string]any{"name": a.Name}
		if a.Kind != "" {
			ref["kind"] = a.Kind
		}
		trigger["authenticationRef"] = ref
	}
	if !slices.ContainsFunc(s.triggers, func(has any) bool { return reflect.DeepEqual(has, any(trigger)) }) {
		s.triggers = append(s.triggers, trigger)
	}
}

func (s *scale) object(namespace, workload string) *unstructured.Unstructured {
	spec := map[string]any{"scaleTargetRef": map[string]any{"name": workload}, "triggers": s.triggers}
	for name, n := range map[string]*int32{
		"pollingInterval": s.PollingInterval,
		"cooldownPeriod":  s.CooldownPeriod,
		"minReplicaCount": s.MinReplicaCount,
		"maxReplicaCount": s.MaxReplicaCount,
	} {
		if n != nil {
			spec[name] = int64(*n)
		}
	}
	if s.Advanced != nil {
		advanced := map[string]any{}
		if err := utiljson.Unmarshal(s.Advanced.Raw, &advanced); err == nil && len(advanced) > 0 {
			spec["advanced"] = advanced
		}
	}
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(Resource.GroupVersion().WithKind("ScaledObject"))
	o.SetNamespace(namespace)
	o.SetName(workload)
	o.SetLabels(map[string]string{"events.openfunction.io/workload": workload})
	return o
}
