package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/kmeta"
)

// +genclient
// +genreconciler
// +kubebuilder:resource:path=eventbuses,singular=eventbus,categories={all,openfunction},shortName=eb
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=".status.state"
// +kubebuilder:printcolumn:name="Users",type=integer,JSONPath=".status.users"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=".status.conditions[?(@.type=='Reachable')].reason"
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.conditions[?(@.type=='Reachable')].message",priority=1
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// EventBus declares what carries the events of a namespace.
type EventBus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is wanted: exactly one backend.
	// +optional
	Spec EventBusSpec `json:"spec,omitempty"`
	// Status is what the controller saw.
	// +optional
	Status EventBusStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// EventBusList is a list of EventBuses.
type EventBusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EventBus `json:"items"`
}

// +genclient
// +genclient:nonNamespaced
// +genreconciler
// +kubebuilder:resource:path=clustereventbuses,singular=clustereventbus,categories={all,openfunction},shortName=ceb,scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=".status.state"
// +kubebuilder:printcolumn:name="Users",type=integer,JSONPath=".status.users"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=".status.conditions[?(@.type=='Reachable')].reason"
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.conditions[?(@.type=='Reachable')].message",priority=1
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// ClusterEventBus is an EventBus for every namespace that has none of that name.
type ClusterEventBus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is wanted: exactly one backend.
	// +optional
	Spec EventBusSpec `json:"spec,omitempty"`
	// Status is what the controller saw.
	// +optional
	Status EventBusStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// ClusterEventBusList is a list of ClusterEventBuses.
type ClusterEventBusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterEventBus `json:"items"`
}

var (
	_ apis.Validatable   = (*EventBus)(nil)
	_ apis.Defaultable   = (*EventBus)(nil)
	_ kmeta.OwnerRefable = (*EventBus)(nil)
	_ apis.Validatable   = (*ClusterEventBus)(nil)
	_ apis.Defaultable   = (*ClusterEventBus)(nil)
	_ kmeta.OwnerRefable = (*ClusterEventBus)(nil)
)

// EventBusSpec declares exactly one backend.
type EventBusSpec struct {
	// Topic is accepted for compatibility and not used: topics are named after events.
	// +optional
	Topic string `json:"topic,omitempty"`
	// NATSStreaming is a NATS Streaming server.
	// +optional
	NATSStreaming *NATSStreamingSpec `json:"natsStreaming,omitempty"`
	// JetStream is a NATS server with JetStream.
	// +optional
	JetStream *JetStreamSpec `json:"jetStream,omitempty"`
	// Kafka is an Apache Kafka cluster.
	// +optional
	Kafka *KafkaBusSpec `json:"kafka,omitempty"`
	// Embedded needs no broker: the bus brings its own servers. In a cluster they are a StatefulSet, in one process they are part of it.
	// +optional
	Embedded *EmbeddedSpec `json:"embedded,omitempty"`
}

// NATSStreamingSpec says where a NATS Streaming server is and how to subscribe. The fields are the original's.
type NATSStreamingSpec struct {
	// NATSURL is the server's URL, or several separated by commas.
	NATSURL string `json:"natsURL"`
	// NATSStreamingClusterID is the server's cluster id.
	NATSStreamingClusterID string `json:"natsStreamingClusterID"`
	// SubscriptionType is queue (the default: replicas share the events) or topic (one subscriber only).
	// +optional
	SubscriptionType string `json:"subscriptionType,omitempty"`
	// DurableSubscriptionName is the durable name of every subscription. Default "openfunction".
	// +optional
	DurableSubscriptionName string `json:"durableSubscriptionName,omitempty"`
	// ConsumerID is the client id. Default: derived from the process.
	// +optional
	ConsumerID *string `json:"consumerID,omitempty"`
	// AckWaitTime is how long the server waits for an acknowledgement before it sends an event again, for example 30s (the default).
	// +optional
	AckWaitTime *string `json:"ackWaitTime,omitempty"`
	// MaxInFlight bounds the events that a subscription holds unacknowledged. Default 256.
	// +optional
	MaxInFlight *int64 `json:"maxInFlight,omitempty"`
	// DeliverNew begins a new subscription with events published after it. This is the default.
	// +optional
	DeliverNew *bool `json:"deliverNew,omitempty"`
	// DeliverAll begins a new subscription with the oldest event that the server has.
	// +optional
	DeliverAll *bool `json:"deliverAll,omitempty"`
	// StartAtSequence begins a new subscription at this sequence number.
	// +optional
	StartAtSequence *int64 `json:"startAtSequence,omitempty"`
	// StartWithLastReceived begins a new subscription with the newest event that the server has.
	// +optional
	StartWithLastReceived *bool `json:"startWithLastReceived,omitempty"`
	// StartAtTimeDelta begins a new subscription this long ago, for example 10m.
	// +optional
	StartAtTimeDelta *string `json:"startAtTimeDelta,omitempty"`
	// StartAtTime begins a new subscription at this time.
	// +optional
	StartAtTime *string `json:"startAtTime,omitempty"`
	// StartAtTimeFormat is the layout of startAtTime, as Go's time package writes layouts. Default RFC 3339.
	// +optional
	StartAtTimeFormat *string `json:"startAtTimeFormat,omitempty"`
	NATSAccessSpec    `json:",inline"`
	// ScaleOption scales Triggers with KEDA.
	// +optional
	ScaleOption *NATSStreamingScaleOption `json:"scaleOption,omitempty"`
}

// NATSStreamingScaleOption scales by a subscription's lag.
type NATSStreamingScaleOption struct {
	GenericScaleOption `json:",inline"`
	// NATSServerMonitoringEndpoint is host:port of the server's monitoring.
	NATSServerMonitoringEndpoint string `json:"natsServerMonitoringEndpoint"`
	// LagThreshold is the lag per replica.
	LagThreshold string `json:"lagThreshold"`
	// QueueGroup whose lag is watched. Default: the subscription's.
	// +optional
	QueueGroup *string `json:"queueGroup,omitempty"`
	// DurableName whose lag is watched. Default: the subscription's.
	// +optional
	DurableName *string `json:"durableName,omitempty"`
	// Subject whose lag is watched. Default: the subscription's.
	// +optional
	Subject *string `json:"subject,omitempty"`
}

// JetStreamSpec says where a NATS server with JetStream is and how streams are made there.
type JetStreamSpec struct {
	// URL of the server, or several separated by commas.
	URL            string `json:"url"`
	NATSAccessSpec `json:",inline"`
	// Replicas of the streams. Default 1.
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`
	// MaxBytes bounds the stream of events; a full one refuses new events. Default unlimited.
	// +optional
	MaxBytes *int64 `json:"maxBytes,omitempty"`
	// TopicRetention is how long the topics of subscribers keep events, an ISO 8601 duration of at least two minutes. Default P7D for topics
	// that are made; one that exists keeps what it has unless this is set.
	// +optional
	TopicRetention *string `json:"topicRetention,omitempty"`
	// AckWait is how long the server waits for a sign of life before it sends an event again, an ISO 8601 duration. Default PT10S.
	// +optional
	AckWait *string `json:"ackWait,omitempty"`
	// MaxInFlight bounds the events that a subscription holds unacknowledged. Default 256.
	// +optional
	MaxInFlight *int64 `json:"maxInFlight,omitempty"`
}

// KafkaBusSpec says where a Kafka cluster is and how topics are made there.
type KafkaBusSpec struct {
	// Brokers is a comma-separated list of host:port.
	Brokers string `json:"brokers"`
	// Partitions of the topics that are made. Default 1.
	// +optional
	Partitions *int32 `json:"partitions,omitempty"`
	// ReplicationFactor of the topics that are made. Default 1.
	// +optional
	ReplicationFactor *int32 `json:"replicationFactor,omitempty"`
	// Retention is how long the topics that are made keep events, an ISO 8601 duration. Default P7D. A subscription that is further behind
	// than that loses events, which it reports.
	// +optional
	Retention *string `json:"retention,omitempty"`
	// MaxInFlight bounds the events that a subscription holds unacknowledged. Default 256.
	// +optional
	MaxInFlight *int64 `json:"maxInFlight,omitempty"`
	// AuthRequired says that the brokers want a user name and a password (SASL).
	// +optional
	AuthRequired bool `json:"authRequired,omitempty"`
	// SASLMechanism is PLAIN (the default), SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
	// +optional
	SASLMechanism string `json:"saslMechanism,omitempty"`
	// SASLUsername is the user name.
	// +optional
	SASLUsername *string `json:"saslUsername,omitempty"`
	// SASLUsernameFrom reads the user name from a Secret.
	// +optional
	SASLUsernameFrom *SecretKeyRef `json:"saslUsernameFrom,omitempty"`
	// SASLPasswordFrom reads the password from a Secret.
	// +optional
	SASLPasswordFrom *SecretKeyRef `json:"saslPasswordFrom,omitempty"`
	// SASLOAuth says where the tokens of OAUTHBEARER come from.
	// +optional
	SASLOAuth *OAuthSpec `json:"saslOAuth,omitempty"`
	// TLS secures the connections; with a client certificate the brokers may know the client by that.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
}

// EmbeddedSpec is a bus of our own JetStream servers.
type EmbeddedSpec struct {
	// Replicas is how many servers keep every event: 1 (the default) or 3, of which one may be away. Only in a cluster.
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`
	// Storage is the size of each server's volume, for example 10Gi. Default 1Gi. Only in a cluster.
	// +optional
	Storage *resource.Quantity `json:"storage,omitempty"`
	// StorageClassName of the volumes. Default: the cluster's. Only in a cluster.
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
	// SyncInterval is how often what was written is forced to disk, for example 1s (the default), or always: before every acknowledgement.
	// It bounds what a power failure can take; a process that is killed loses nothing either way.
	// +optional
	SyncInterval string `json:"syncInterval,omitempty"`
	// MaxBytes bounds the events on disk; a full bus refuses new events. Default unlimited.
	// +optional
	MaxBytes *int64 `json:"maxBytes,omitempty"`
	// TopicRetention is how long the topics of subscribers keep events, an ISO 8601 duration of at least two minutes. Default P7D for topics
	// that are made; one that exists keeps what it has unless this is set.
	// +optional
	TopicRetention *string `json:"topicRetention,omitempty"`
}

// EventBusStatus is what the controller saw.
type EventBusStatus struct {
	duckv1.Status `json:",inline"`
	// State is Running, Pending or Error.
	// +optional
	State string `json:"state,omitempty"`
	// Users is how many EventSources and Triggers use the bus.
	// +optional
	Users int32 `json:"users"`
	// EventSources is how many EventSources use the bus.
	// +optional
	EventSources int32 `json:"eventSources"`
	// Triggers is how many Triggers use the bus.
	// +optional
	Triggers int32 `json:"triggers"`
	// UsedBy names the first ten users, for example "EventSource default/orders".
	// +optional
	UsedBy []string `json:"usedBy,omitempty"`
}
