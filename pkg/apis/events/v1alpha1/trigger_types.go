package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/kmeta"
)

// +genclient
// +genreconciler
// +kubebuilder:resource:categories={all,openfunction},shortName=tg
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="EventBus",type=string,JSONPath=".spec.eventBus"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=".status.state"
// +kubebuilder:printcolumn:name="Components",type=string,JSONPath=".status.componentStatistics"
// +kubebuilder:printcolumn:name="Workloads",type=string,JSONPath=".status.workloadStatistics"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=".status.conditions[?(@.type=='Ready')].reason",priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.conditions[?(@.type=='Ready')].message",priority=1
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Trigger declares what happens when events arrive.
type Trigger struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is wanted: inputs, conditions and who gets the events.
	// +optional
	Spec TriggerSpec `json:"spec,omitempty"`
	// Status is what the controller saw.
	// +optional
	Status TriggerStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// TriggerList is a list of Triggers.
type TriggerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Trigger `json:"items"`
}

var (
	_ apis.Validatable   = (*Trigger)(nil)
	_ apis.Defaultable   = (*Trigger)(nil)
	_ kmeta.OwnerRefable = (*Trigger)(nil)
)

// TriggerSpec names inputs and says who gets them, and when.
type TriggerSpec struct {
	// EventBus names the EventBus, or else the ClusterEventBus, that carries the inputs. Default "default".
	// +optional
	EventBus string `json:"eventBus,omitempty"`
	// Inputs are the events that conditions speak of, by the name that they use.
	Inputs map[string]*Input `json:"inputs"`
	// Subscribers are who gets an event when their condition holds.
	Subscribers []Subscriber `json:"subscribers"`
	// Window is how long an input counts as arrived, a duration such as 60s (the default).
	// +optional
	Window string `json:"window,omitempty"`
	// LogLevel of the workload: debug, info, warn, error, or the original's verbosity "1" to "9".
	// +optional
	LogLevel *string `json:"logLevel,omitempty"`
}

// Input is one event of one EventSource.
type Input struct {
	// Namespace of the EventSource. Default: the Trigger's own. Another one must allow it with allowedNamespaces.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// EventSource names the EventSource.
	EventSource string `json:"eventSource"`
	// Event names the event.
	Event string `json:"event"`
	// Kind tells apart equal event names: http, kafka, cron, redis or mqtt. Default: any.
	// +optional
	Kind string `json:"kind,omitempty"`
}

// Match says what becomes of the inputs that made a condition true.
type Match string

// The matches.
const (
	// MatchOnce consumes them: an event takes part in one match.
	MatchOnce Match = "Once"
	// MatchLatest keeps them true until their window ends, as the original did.
	MatchLatest Match = "Latest"
)

// Payload says what is sent when a condition holds.
type Payload string

// The payloads.
const (
	// PayloadEvent sends the event that arrived.
	PayloadEvent Payload = "Event"
	// PayloadAll sends one event that holds all matched ones.
	PayloadAll Payload = "All"
)

// Subscriber gets an event when its condition holds.
type Subscriber struct {
	// Condition over the inputs, for example: a && (b || !c) && a.data.amount > 100.
	Condition string `json:"condition"`
	// Sink receives the event.
	// +optional
	Sink *Sink `json:"sink,omitempty"`
	// Topic of the event bus on which the event is published, as it is written here.
	// +optional
	Topic string `json:"topic,omitempty"`
	// DeadLetterSink receives the events that could not be delivered.
	// +optional
	DeadLetterSink *Sink `json:"deadLetterSink,omitempty"`
	// DeadLetterTopic of the event bus receives the events that could not be delivered. Default: a topic of the Trigger's own.
	// +optional
	DeadLetterTopic string `json:"deadLetterTopic,omitempty"`
	// Delivery says how events are delivered.
	// +optional
	Delivery *DeliverySpec `json:"delivery,omitempty"`
	// Match is Once (the default) or Latest.
	// +optional
	Match Match `json:"match,omitempty"`
	// Payload is Event (the default) or All.
	// +optional
	Payload Payload `json:"payload,omitempty"`
}

// TriggerStatus is what the controller saw.
type TriggerStatus struct {
	duckv1.Status  `json:",inline"`
	WorkloadStatus `json:",inline"`
}
