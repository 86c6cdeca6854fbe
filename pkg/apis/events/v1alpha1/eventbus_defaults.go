package v1alpha1

import (
	"context"

	"k8s.io/apimachinery/pkg/api/resource"
)

// SetDefaults fills in what the spec leaves out. Calling it again changes nothing.
func (eb *EventBus) SetDefaults(context.Context) { eb.Spec.setDefaults() }

// SetDefaults fills in what the spec leaves out. Calling it again changes nothing.
func (ceb *ClusterEventBus) SetDefaults(context.Context) { ceb.Spec.setDefaults() }

func (s *EventBusSpec) setDefaults() {
	if n := s.NATSStreaming; n != nil {
		setDefault(&n.SubscriptionType, "queue")
		setDefault(&n.DurableSubscriptionName, "openfunction")
		setDefaultPointer(&n.AckWaitTime, "30s")
		setDefaultPointer(&n.MaxInFlight, 256)
	}
	if j := s.JetStream; j != nil {
		setDefaultPointer(&j.Replicas, 1)
		setDefaultPointer(&j.AckWait, "PT10S")
		setDefaultPointer(&j.MaxInFlight, 256)
	}
	if k := s.Kafka; k != nil {
		setDefaultPointer(&k.Partitions, 1)
		setDefaultPointer(&k.ReplicationFactor, 1)
		setDefaultPointer(&k.Retention, "P7D")
		setDefaultPointer(&k.MaxInFlight, 256)
		if k.AuthRequired {
			setDefault(&k.SASLMechanism, "PLAIN")
		}
	}
	if e := s.Embedded; e != nil {
		setDefault(&e.SyncInterval, "1s")
		setDefaultPointer(&e.Replicas, 1)
		setDefaultPointer(&e.Storage, resource.MustParse("1Gi"))
	}
}
