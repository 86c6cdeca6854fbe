package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/kmeta"
)

// +genclient
// +genreconciler
// +kubebuilder:resource:categories={all,openfunction},shortName=es
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="EventBus",type=string,JSONPath=".spec.eventBus"
// +kubebuilder:printcolumn:name="Sink",type=string,JSONPath=".spec.sink['ref.name','uri','uriFrom.name']"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=".status.state"
// +kubebuilder:printcolumn:name="Components",type=string,JSONPath=".status.componentStatistics"
// +kubebuilder:printcolumn:name="Workloads",type=string,JSONPath=".status.workloadStatistics"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=".status.conditions[?(@.type=='Ready')].reason",priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=".status.conditions[?(@.type=='Ready')].message",priority=1
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// EventSource declares where events come from and where they go.
type EventSource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is wanted: where events come from and where they go.
	// +optional
	Spec EventSourceSpec `json:"spec,omitempty"`
	// Status is what the controller saw.
	// +optional
	Status EventSourceStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// EventSourceList is a list of EventSources.
type EventSourceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EventSource `json:"items"`
}

var (
	_ apis.Validatable   = (*EventSource)(nil)
	_ apis.Defaultable   = (*EventSource)(nil)
	_ kmeta.OwnerRefable = (*EventSource)(nil)
)

// EventSourceSpec declares events by kind and name: each map's key is the event's name.
type EventSourceSpec struct {
	// EventBus names the EventBus, or else the ClusterEventBus, that carries the events. Default "default" when there is no sink either.
	// +optional
	EventBus string `json:"eventBus,omitempty"`
	// Sink receives every event directly. With an event bus too, it is one more subscriber of the bus.
	// +optional
	Sink *Sink `json:"sink,omitempty"`
	// DeadLetterSink receives the events that sink did not take.
	// +optional
	DeadLetterSink *Sink `json:"deadLetterSink,omitempty"`
	// Delivery says how events are delivered to sink.
	// +optional
	Delivery *DeliverySpec `json:"delivery,omitempty"`
	// AllowedNamespaces are the other namespaces whose Triggers may use these events; "*" allows all. Default none.
	// +optional
	AllowedNamespaces []string `json:"allowedNamespaces,omitempty"`
	// LogLevel of the workloads: debug, info, warn, error, or the original's verbosity "1" to "9".
	// +optional
	LogLevel string `json:"logLevel,omitempty"`
	// Build is accepted for compatibility and not used.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Build *runtime.RawExtension `json:"build,omitempty"`

	// HTTP events are posted to /{namespace}/{eventSource}/{event}.
	// +optional
	HTTP map[string]*HTTPSpec `json:"http,omitempty"`
	// Kafka events are the records of a topic.
	// +optional
	Kafka map[string]*KafkaSpec `json:"kafka,omitempty"`
	// Cron events happen on a schedule.
	// +optional
	Cron map[string]*CronSpec `json:"cron,omitempty"`
	// Redis events come from a Redis server.
	// +optional
	Redis map[string]*RedisSpec `json:"redis,omitempty"`
	// MQTT events are the messages of an MQTT topic.
	// +optional
	MQTT map[string]*MQTTSpec `json:"mqtt,omitempty"`
}

// HTTPSpec declares an event that is posted to the ingress.
type HTTPSpec struct {
	// Raw accepts bodies that are not CloudEvents and makes CloudEvents of them: their content type and bytes are kept.
	// +optional
	Raw bool `json:"raw,omitempty"`
	// ID of the events that raw bodies become: a template such as ${header.X-GitHub-Delivery}, so that a repeat is recognised. Default: random.
	// +optional
	ID string `json:"id,omitempty"`
	// Type of the events that raw bodies become: a template such as com.github.${header.X-GitHub-Event}. Default io.openfunction.events.http.
	// +optional
	Type string `json:"type,omitempty"`
	// Source of the events that raw bodies become, a template. Default: the path that is posted to.
	// +optional
	Source string `json:"source,omitempty"`
	// Subject of the events that raw bodies become: a template such as ${data.repository.full_name} or ${query.name}. Default none.
	// +optional
	Subject string `json:"subject,omitempty"`
	// MaxBodyBytes bounds the data of an event, which is the body of a request in binary mode. Default 1048576 (1 MiB).
	// In the JSON modes the body may be a third larger, and 64 KiB, since data may travel there as base64.
	// +optional
	MaxBodyBytes *int64 `json:"maxBodyBytes,omitempty"`
	// Auth is what a request must show. Default: nothing, anyone who reaches the address may post.
	// +optional
	Auth *HTTPAuthSpec `json:"auth,omitempty"`
	// RateLimit bounds the events that are taken; what is above it gets status 429 and Retry-After. Default: no bound.
	// +optional
	RateLimit *RateLimitSpec `json:"rateLimit,omitempty"`
}

// HTTPAuthSpec is what a request must show: exactly one. A Secret's value may have several lines, each of which is accepted, so that a new
// secret works before the old one is gone.
type HTTPAuthSpec struct {
	// Bearer is a token in the header Authorization.
	// +optional
	Bearer *BearerAuthSpec `json:"bearer,omitempty"`
	// Basic is a user name and a password.
	// +optional
	Basic *BasicAuthSpec `json:"basic,omitempty"`
	// HMAC is a signature over the body, as webhooks have it.
	// +optional
	HMAC *HMACAuthSpec `json:"hmac,omitempty"`
	// OIDC is a JSON Web Token of an OpenID Connect issuer in the header Authorization.
	// +optional
	OIDC *OIDCAuthSpec `json:"oidc,omitempty"`
}

// BearerAuthSpec is a token in the header Authorization.
type BearerAuthSpec struct {
	// TokenFrom reads the token from a Secret.
	TokenFrom *SecretKeyRef `json:"tokenFrom"`
}

// BasicAuthSpec is a user name and a password.
type BasicAuthSpec struct {
	// Username to expect.
	// +optional
	Username *string `json:"username,omitempty"`
	// UsernameFrom reads the user name from a Secret.
	// +optional
	UsernameFrom *SecretKeyRef `json:"usernameFrom,omitempty"`
	// PasswordFrom reads the password from a Secret.
	PasswordFrom *SecretKeyRef `json:"passwordFrom"`
}

// HMACAuthSpec is a signature over the body.
type HMACAuthSpec struct {
	// Scheme is github (header X-Hub-Signature-256) or stripe (header Stripe-Signature).
	Scheme string `json:"scheme"`
	// SecretFrom reads the signing secret from a Secret.
	SecretFrom *SecretKeyRef `json:"secretFrom"`
	// Tolerance is how old a signature may be that holds a time, an ISO 8601 duration. Default PT5M.
	// +optional
	Tolerance *string `json:"tolerance,omitempty"`
}

// OIDCAuthSpec is a JSON Web Token of an OpenID Connect issuer.
type OIDCAuthSpec struct {
	// Issuer is the https URL whose /.well-known/openid-configuration describes it.
	Issuer string `json:"issuer"`
	// Audience that the token must be for.
	Audience string `json:"audience"`
	// Subjects that may post. Default: all.
	// +optional
	Subjects []string `json:"subjects,omitempty"`
	// CACert are PEM certificates to trust besides the system's.
	// +optional
	CACert *string `json:"caCert,omitempty"`
	// CACertFrom reads caCert from a Secret.
	// +optional
	CACertFrom *SecretKeyRef `json:"caCertFrom,omitempty"`
}

// RateLimitSpec bounds the events that each process that serves them takes.
type RateLimitSpec struct {
	// EventsPerSecond is how many are taken in a second, on average.
	EventsPerSecond int32 `json:"eventsPerSecond"`
	// Burst is how many are taken at once. Default: eventsPerSecond.
	// +optional
	Burst *int32 `json:"burst,omitempty"`
}

// CronSpec declares an event that happens on a schedule.
type CronSpec struct {
	// Schedule is five cron fields, or six with seconds first, or a descriptor such as @hourly or @every 5s.
	Schedule string `json:"schedule"`
	// TimeZone the schedule is read in, a name of the IANA database. Default UTC.
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
	// Data of the events, as text. Default: {"time": the tick, "schedule": the schedule}.
	// +optional
	Data *string `json:"data,omitempty"`
	// ContentType of data. Default application/json.
	// +optional
	ContentType string `json:"contentType,omitempty"`
}

// KafkaSpec declares an event for every record of a topic.
type KafkaSpec struct {
	// Brokers is a comma-separated list of host:port.
	Brokers string `json:"brokers"`
	// Topic to read. Default: the event's name.
	// +optional
	Topic string `json:"topic,omitempty"`
	// ConsumerGroup to join. Default: openfunction.{namespace}.{eventSource}.kafka.{event}.
	// +optional
	ConsumerGroup string `json:"consumerGroup,omitempty"`
	// InitialOffset is where a new consumer group begins on partitions that exist when it first connects: newest (the default) or oldest.
	// +optional
	InitialOffset string `json:"initialOffset,omitempty"`
	// AuthRequired says that the brokers want a user name and a password (SASL).
	// +optional
	AuthRequired bool `json:"authRequired"`
	// SASLMechanism is PLAIN (the default), SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
	// +optional
	SASLMechanism string `json:"saslMechanism,omitempty"`
	// SASLUsername is the user name.
	// +optional
	SASLUsername *string `json:"saslUsername,omitempty"`
	// SASLUsernameFrom reads the user name from a Secret.
	// +optional
	SASLUsernameFrom *SecretKeyRef `json:"saslUsernameFrom,omitempty"`
	// SASLPassword is the password in plain text; prefer saslPasswordFrom.
	// +optional
	SASLPassword *string `json:"saslPassword,omitempty"`
	// SASLPasswordFrom reads the password from a Secret.
	// +optional
	SASLPasswordFrom *SecretKeyRef `json:"saslPasswordFrom,omitempty"`
	// SASLOAuth says where the tokens of OAUTHBEARER come from.
	// +optional
	SASLOAuth *OAuthSpec `json:"saslOAuth,omitempty"`
	// TLS secures the connections; with a client certificate the brokers may know the client by that.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
	// MaxMessageBytes is the size of records to be prepared for; larger ones are read too, one at a time.
	// +optional
	MaxMessageBytes *int64 `json:"maxMessageBytes,omitempty"`
	// ScaleOption scales the workload with KEDA.
	// +optional
	ScaleOption *KafkaScaleOption `json:"scaleOption,omitempty"`
}

// KafkaScaleOption scales by the consumer group's lag.
type KafkaScaleOption struct {
	GenericScaleOption `json:",inline"`
	// ConsumerGroup whose lag is watched. Default: the event's.
	// +optional
	ConsumerGroup string `json:"consumerGroup,omitempty"`
	// Topic whose lag is watched. Default: the event's.
	// +optional
	Topic string `json:"topic,omitempty"`
	// LagThreshold is the lag per replica.
	LagThreshold string `json:"lagThreshold"`
}

// MQTTSpec declares an event for every message of an MQTT topic.
type MQTTSpec struct {
	// URL of the broker: tcp://host:1883, ssl://host:8883, ws:// or wss://; also mqtt, mqtts and tls.
	URL string `json:"url"`
	// Topic filter to subscribe to.
	Topic string `json:"topic"`
	// Version of the protocol: "5" (the default) or "3.1.1".
	// +optional
	Version string `json:"version,omitempty"`
	// Group shares the messages with whoever else subscribes with this group ($share), EventSources for example; their order is lost.
	// Default: no sharing, each subscriber gets every message.
	// +optional
	Group string `json:"group,omitempty"`
	// Replicas is how many members of the group receive this event in a cluster, each in a pod of its own: 1 (the default) to 10. More than
	// one needs a group.
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`
	// ConsumerID is the client id, by which the broker knows the session; only one client may have it. With a group that of the member is
	// added. Default: openfunction.{namespace}.{eventSource}.mqtt.{event}.
	// +optional
	ConsumerID *string `json:"consumerID,omitempty"`
	// QOS to subscribe with: 0, at which messages may be lost, 1 or 2. Default 1.
	// +optional
	QOS *int64 `json:"qos,omitempty"`
	// Retain is for who publishes through the event's Dapr Component. Messages that the broker has retained become events in any case.
	// +optional
	Retain *bool `json:"retain,omitempty"`
	// CleanSession has the broker keep no session: what is published while the source is away is lost. Default false.
	// +optional
	CleanSession *bool `json:"cleanSession,omitempty"`
	// Username for the broker.
	// +optional
	Username *string `json:"username,omitempty"`
	// UsernameFrom reads the user name from a Secret.
	// +optional
	UsernameFrom *SecretKeyRef `json:"usernameFrom,omitempty"`
	// PasswordFrom reads the password from a Secret.
	// +optional
	PasswordFrom *SecretKeyRef `json:"passwordFrom,omitempty"`
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
	// ClientKey of clientCert in plain text, PEM; prefer clientKeyFrom.
	// +optional
	ClientKey *string `json:"clientKey,omitempty"`
	// ClientKeyFrom reads clientKey from a Secret.
	// +optional
	ClientKeyFrom *SecretKeyRef `json:"clientKeyFrom,omitempty"`
}

// RedisSpec declares an event for every entry of a Redis stream or list, or message of a channel. The connection fields are the original's.
type RedisSpec struct {
	// RedisHost is host:port of the server, or of a Sentinel when failover is true, or of nodes of a cluster; several separated by commas.
	RedisHost string `json:"redisHost"`
	// RedisUsername of an ACL user.
	// +optional
	RedisUsername *string `json:"redisUsername,omitempty"`
	// RedisUsernameFrom reads the user name from a Secret.
	// +optional
	RedisUsernameFrom *SecretKeyRef `json:"redisUsernameFrom,omitempty"`
	// RedisPassword in plain text; prefer redisPasswordFrom.
	// +optional
	RedisPassword string `json:"redisPassword,omitempty"`
	// RedisPasswordFrom reads the password from a Secret.
	// +optional
	RedisPasswordFrom *SecretKeyRef `json:"redisPasswordFrom,omitempty"`
	// SentinelUsername of an ACL user of the Sentinels.
	// +optional
	SentinelUsername *string `json:"sentinelUsername,omitempty"`
	// SentinelUsernameFrom reads the Sentinels' user name from a Secret.
	// +optional
	SentinelUsernameFrom *SecretKeyRef `json:"sentinelUsernameFrom,omitempty"`
	// SentinelPasswordFrom reads the Sentinels' password from a Secret.
	// +optional
	SentinelPasswordFrom *SecretKeyRef `json:"sentinelPasswordFrom,omitempty"`
	// Stream to read with a consumer group; at least once. Default, without a channel, pattern or list: the event's name.
	// +optional
	Stream string `json:"stream,omitempty"`
	// ConsumerGroup of the stream. One that does not exist begins at the end of the stream. Default: derived from the event.
	// +optional
	ConsumerGroup string `json:"consumerGroup,omitempty"`
	// Channel to subscribe to; at most once, as Redis delivers it.
	// +optional
	Channel string `json:"channel,omitempty"`
	// Pattern of channels to subscribe to; at most once, as Redis delivers it.
	// +optional
	Pattern string `json:"pattern,omitempty"`
	// List to take elements from, at its left end; at least once. Needs keys of its own that begin with the list's name.
	// +optional
	List string `json:"list,omitempty"`
	// EnableTLS connects with TLS. Default false, or true where tls is set.
	// +optional
	EnableTLS *bool `json:"enableTLS,omitempty"`
	// TLS says whom to trust and what to show.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
	// Failover says that redisHost is a Sentinel, which knows the server of sentinelMasterName. Default false.
	// +optional
	Failover *bool `json:"failover,omitempty"`
	// SentinelMasterName is the name of the server that Sentinel watches; failover needs it.
	// +optional
	SentinelMasterName *string `json:"sentinelMasterName,omitempty"`
	// RedeliverInterval is how often it is looked for what other processes have received and not handled in time. Default 15s; -1 is never.
	// +optional
	RedeliverInterval *string `json:"redeliverInterval,omitempty"`
	// ProcessingTimeout is how long a process may be silent before others take over what it has received and not acknowledged. Default 60s.
	// +optional
	ProcessingTimeout *string `json:"processingTimeout,omitempty"`
	// RedisType is node (the default) or cluster.
	// +optional
	RedisType *string `json:"redisType,omitempty"`
	// RedisDB is the number of the database. Default 0.
	// +optional
	RedisDB *int64 `json:"redisDB,omitempty"`
	// RedisMaxRetries is how often a command is tried again at once after a failure of the network. Default 3; -1 is never.
	// +optional
	RedisMaxRetries *int64 `json:"redisMaxRetries,omitempty"`
	// RedisMinRetryInterval is the shortest wait between such retries. Default 10ms; -1 is none.
	// +optional
	RedisMinRetryInterval *string `json:"redisMinRetryInterval,omitempty"`
	// RedisMaxRetryInterval is the longest wait between such retries. Default 1s; -1 is none.
	// +optional
	RedisMaxRetryInterval *string `json:"redisMaxRetryInterval,omitempty"`
	// DialTimeout bounds connecting. Default 5s.
	// +optional
	DialTimeout *string `json:"dialTimeout,omitempty"`
	// ReadTimeout bounds the wait for an answer. Default 5s; -1 is without end.
	// +optional
	ReadTimeout *string `json:"readTimeout,omitempty"`
	// WriteTimeout bounds the sending of a command. Default readTimeout; -1 is without end.
	// +optional
	WriteTimeout *string `json:"writeTimeout,omitempty"`
	// PoolSize is the most connections that are open at once, besides the one that waits for what is new. Default 10 for each CPU.
	// +optional
	PoolSize *int64 `json:"poolSize,omitempty"`
	// PoolTimeout is how long a command waits for a free connection. Default readTimeout and 1s.
	// +optional
	PoolTimeout *string `json:"poolTimeout,omitempty"`
	// MaxConnAge is the age at which a connection is closed and replaced, for example 30m. Default: none.
	// +optional
	MaxConnAge *string `json:"maxConnAge,omitempty"`
	// MinIdleConns is how many connections are kept open without use. Default 0.
	// +optional
	MinIdleConns *int64 `json:"minIdleConns,omitempty"`
	// IdleCheckFrequency is accepted for compatibility; a connection that was idle too long is closed when it would be used.
	// +optional
	IdleCheckFrequency *string `json:"idleCheckFrequency,omitempty"`
	// IdleTimeout is how long a connection may be idle before it is not used again. Default 30m; -1 is for ever.
	// +optional
	IdleTimeout *string `json:"idleTimeout,omitempty"`
}

// EventSourceStatus is what the controller saw.
type EventSourceStatus struct {
	duckv1.Status  `json:",inline"`
	WorkloadStatus `json:",inline"`
	// Address is where HTTP events are posted, below it /{event}.
	// +optional
	Address *duckv1.Addressable `json:"address,omitempty"`
	// SinkURI is where sink leads.
	// +optional
	SinkURI *apis.URL `json:"sinkUri,omitempty"`
}
