package v1alpha1

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultBus is the name of the bus that carries what names no bus.
const defaultBus = "default"

// BusName is the bus that carries the events, "" when they only go to a sink. It tells the same of a spec that was stored without defaults.
func (s *EventSourceSpec) BusName() string {
	if s.EventBus == "" && s.Sink == nil {
		return defaultBus
	}
	return s.EventBus
}

// BusName is the bus that carries the inputs. It tells the same of a spec that was stored without defaults.
func (s *TriggerSpec) BusName() string { return cmp.Or(s.EventBus, defaultBus) }

// namespaceOf is the object's namespace; an object that has none yet will be in "default".
func namespaceOf(o metav1.Object) string { return cmp.Or(o.GetNamespace(), metav1.NamespaceDefault) }

// setDefault sets *field to value when it is zero.
func setDefault[T comparable](field *T, value T) { *field = cmp.Or(*field, value) }

// setDefaultPointer sets *field to value when it is nil.
func setDefaultPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func setSinkDefaults(s *Sink, namespace string) {
	if s != nil && s.Ref != nil {
		setDefault(&s.Ref.Namespace, namespace)
	}
}
