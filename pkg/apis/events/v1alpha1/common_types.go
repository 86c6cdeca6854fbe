package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// SecretKeyRef points at one key of a Secret in the object's own namespace.
type SecretKeyRef struct {
	// Name of the Secret.
	Name string `json:"name"`
	// Key in the Secret.
	Key string `json:"key"`
}

// Sink is where events are posted to: a destination as Knative has it, or a URL that is in a Secret.
type Sink struct {
	duckv1.Destination `json:",inline"`
	// URIFrom reads the URL, all of it, from a Secret, since it holds a password or is one, as those of many webhooks. It takes the place of ref and uri.
	// +optional
	URIFrom *SecretKeyRef `json:"uriFrom,omitempty"`
}

// TLSSpec secures a connection with TLS 1.2 or later; {} trusts the system's authorities and shows no certificate.
type TLSSpec struct {
	// CACert are PEM certificates to trust besides the system's.
	// +optional
	CACert *string `json:"caCert,omitempty"`
	// CACertFrom reads caCert from a Secret.
	// +optional
	CACertFrom *SecretKeyRef `json:"caCertFrom,omitempty"`
	// ClientCert that the client shows, PEM.
	// +optional
	ClientCert *string `json:"clientCert,omitempty"`
	// ClientCertFrom reads clientCert from a Secret.
	// +optional
	ClientCertFrom *SecretKeyRef `json:"clientCertFrom,omitempty"`
	// ClientKeyFrom reads the private key of clientCert from a Secret, PEM.
	// +optional
	ClientKeyFrom *SecretKeyRef `json:"clientKeyFrom,omitempty"`
	// ServerName to expect in the server's certificate. Default: the host that is connected to.
	// +optional
	ServerName string `json:"serverName,omitempty"`
}

// OAuthSpec says where a Kafka client gets its tokens: the client credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
type OAuthSpec struct {
	// TokenURL is the authorization server's token endpoint.
	TokenURL string `json:"tokenURL"`
	// ClientID is who asks.
	ClientID string `json:"clientID"`
	// ClientSecretFrom reads the client's secret from a Secret.
	ClientSecretFrom *SecretKeyRef `json:"clientSecretFrom"`
	// Scopes to ask for.
	// +optional
	Scopes []string `json:"scopes,omitempty"`
	// CACert are PEM certificates to trust besides the system's.
	// +optional
	CACert *string `json:"caCert,omitempty"`
	// CACertFrom reads caCert from a Secret.
	// +optional
	CACertFrom *SecretKeyRef `json:"caCertFrom,omitempty"`
}

// NATSAccessSpec is how a NATS server lets a client in: a user name and password, a token, a credentials file or an nkey; at most one.
type NATSAccessSpec struct {
	// Username for the server.
	// +optional
	Username *string `json:"username,omitempty"`
	// UsernameFrom reads the user name from a Secret.
	// +optional
	UsernameFrom *SecretKeyRef `json:"usernameFrom,omitempty"`
	// PasswordFrom reads the password from a Secret.
	// +optional
	PasswordFrom *SecretKeyRef `json:"passwordFrom,omitempty"`
	// TokenFrom reads an authentication token from a Secret.
	// +optional
	TokenFrom *SecretKeyRef `json:"tokenFrom,omitempty"`
	// CredentialsFrom reads a credentials file (user JWT and nkey seed, as nsc writes it) from a Secret.
	// +optional
	CredentialsFrom *SecretKeyRef `json:"credentialsFrom,omitempty"`
	// NKeySeedFrom reads the seed of a user nkey from a Secret.
	// +optional
	NKeySeedFrom *SecretKeyRef `json:"nkeySeedFrom,omitempty"`
	// TLS secures the connection; a URL that begins with tls:// asks for it too.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
}

// BackoffPolicy says how the wait between attempts grows.
type BackoffPolicy string

// The backoff policies, as Knative names them.
const (
	// BackoffPolicyLinear waits backoffDelay times the number of the retry, counted from one.
	BackoffPolicyLinear BackoffPolicy = "linear"
	// BackoffPolicyExponential waits backoffDelay, then twice that, then four times that, and so on.
	BackoffPolicyExponential BackoffPolicy = "exponential"
)

// Ordering says which events are delivered one after the other.
type Ordering string

// The orders of delivery.
const (
	// OrderingNone delivers events as soon as they come, whatever becomes of those before them.
	OrderingNone Ordering = "none"
	// OrderingKey delivers events of one partitionkey one after the other.
	OrderingKey Ordering = "key"
)

// DeliverySpec says how an event is delivered to one target. Names and formats are those of Knative's DeliverySpec.
type DeliverySpec struct {
	// Retry is how many more attempts follow a failed first one. Default 10.
	// +optional
	Retry *int32 `json:"retry,omitempty"`
	// Timeout of one attempt, an ISO 8601 duration. Default PT30S.
	// +optional
	Timeout *string `json:"timeout,omitempty"`
	// BackoffPolicy is linear or exponential. Default exponential.
	// +optional
	BackoffPolicy *BackoffPolicy `json:"backoffPolicy,omitempty"`
	// BackoffDelay is the first wait between attempts, an ISO 8601 duration. Default PT0.2S. No wait exceeds one minute.
	// +optional
	BackoffDelay *string `json:"backoffDelay,omitempty"`
	// RetryAfterMax caps the wait that a sink may ask for with Retry-After, an ISO 8601 duration. Default PT1M; PT0S ignores the header.
	// +optional
	RetryAfterMax *string `json:"retryAfterMax,omitempty"`
	// Ordering is none or key: with key, events that have the same partitionkey are delivered one after the other, in the order in which the
	// bus has them. Default none.
	// +optional
	Ordering *Ordering `json:"ordering,omitempty"`
}

// GenericScaleOption configures the KEDA ScaledObject of a workload.
type GenericScaleOption struct {
	// PollingInterval is how often KEDA looks, in seconds.
	// +optional
	PollingInterval *int32 `json:"pollingInterval,omitempty"`
	// CooldownPeriod is how long KEDA waits before it scales to zero, in seconds.
	// +optional
	CooldownPeriod *int32 `json:"cooldownPeriod,omitempty"`
	// MinReplicaCount is the smallest number of replicas.
	// +optional
	MinReplicaCount *int32 `json:"minReplicaCount,omitempty"`
	// MaxReplicaCount is the largest number of replicas.
	// +optional
	MaxReplicaCount *int32 `json:"maxReplicaCount,omitempty"`
	// Advanced is KEDA's AdvancedConfig, passed on as it is.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Advanced *runtime.RawExtension `json:"advanced,omitempty"`
	// Metadata is added to the metadata of the KEDA trigger.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
	// AuthRef names a KEDA TriggerAuthentication.
	// +optional
	AuthRef *ScaledObjectAuthRef `json:"authRef,omitempty"`
}

// ScaledObjectAuthRef names a KEDA TriggerAuthentication or ClusterTriggerAuthentication.
type ScaledObjectAuthRef struct {
	// Name of the authentication object.
	Name string `json:"name"`
	// Kind is TriggerAuthentication (the default) or ClusterTriggerAuthentication.
	// +optional
	Kind string `json:"kind,omitempty"`
}

// WorkloadStatus is the part of a status that the seed's columns show.
type WorkloadStatus struct {
	// State is Running, Pending or Error.
	// +optional
	State string `json:"state,omitempty"`
	// Message says why State is not Running.
	// +optional
	Message string `json:"message,omitempty"`
	// ComponentStatistics is how many components are ready of how many there are, as n/m.
	// +optional
	ComponentStatistics string `json:"componentStatistics,omitempty"`
	// WorkloadStatistics is how many workloads are ready of how many there are, as n/m.
	// +optional
	WorkloadStatistics string `json:"workloadStatistics,omitempty"`
	// Subscriptions are the durable subscriptions on the event bus, by name: those that exist, and those that begin once what they wait for
	// is there.
	// +optional
	Subscriptions []SubscriptionStatus `json:"subscriptions,omitempty"`
}

// SubscriptionStatus is a durable subscription on the event bus, or one that waits and does not exist yet.
type SubscriptionStatus struct {
	// Name on the event bus. On Kafka it is that of a consumer group, after `openfunction.`; on NATS Streaming that of a queue group, or with the
	// subscriptionType topic what follows durableSubscriptionName and a hyphen in the durable's name.
	Name string `json:"name"`
	// Key is what the name would be of a subscription that begins now, if it is another: where the events go was edited.
	// +optional
	Key string `json:"key,omitempty"`
}
