// Package plan turns the declared objects into a Plan, the flat contract between those who declare and the data plane that runs it.
package plan

import (
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// Plan is everything that a gateway runs. It is JSON, holds resolved secrets, and is the same for the same objects in any order.
type Plan struct {
	Buses       []Bus        `json:"buses,omitempty"`
	Sources     []Source     `json:"sources,omitempty"`
	Subscribers []Subscriber `json:"subscribers,omitempty"`
	// Retired are subscriptions that earlier plans had and nobody will come back for: they are removed from their buses.
	Retired []Retired `json:"retired,omitempty"`
}

// Retired is a durable subscription that is no longer wanted.
type Retired struct {
	// Bus is the name of a bus of the plan.
	Bus string `json:"bus"`
	// ID is the Subscriber's.
	ID     string   `json:"id"`
	Topics []string `json:"topics"`
}

// Bus is one connection to a broker. Exactly one of the specs is set.
type Bus struct {
	// Name is what sources and subscribers refer to: EventBus ns/name or ClusterEventBus name.
	Name          string         `json:"name"`
	NATSStreaming *NATSStreaming `json:"natsStreaming,omitempty"`
	JetStream     *JetStream     `json:"jetStream,omitempty"`
	Embedded      *Embedded      `json:"embedded,omitempty"`
}

// NATSStreaming is v1alpha1.NATSStreamingSpec, parsed.
type NATSStreaming struct {
	URL          string        `json:"url"`
	ClusterID    string        `json:"clusterID"`
	Queue        bool          `json:"queue"`
	Durable      string        `json:"durable"`
	ClientID     string        `json:"clientID,omitempty"`
	AckWait      time.Duration `json:"ackWait"`
	MaxInFlight  int           `json:"maxInFlight"`
	StartAt      string        `json:"startAt"` // new, all, last, sequence, delta or time
	StartAtSeq   uint64        `json:"startAtSequence,omitempty"`
	StartAtDelta time.Duration `json:"startAtTimeDelta,omitempty"`
	StartAtTime  *time.Time    `json:"startAtTime,omitempty"`
}

// JetStream is v1alpha1.JetStreamSpec, parsed.
type JetStream struct {
	URL         string        `json:"url"`
	Username    string        `json:"username,omitempty"`
	Password    string        `json:"password,omitempty"`
	Token       string        `json:"token,omitempty"`
	Replicas    int           `json:"replicas"`
	MaxBytes    int64         `json:"maxBytes,omitempty"`
	AckWait     time.Duration `json:"ackWait"`
	MaxInFlight int           `json:"maxInFlight"`
}

// Embedded is v1alpha1.EmbeddedSpec, parsed.
type Embedded struct {
	// SyncInterval is how often to force data to disk; zero means before every acknowledgement.
	SyncInterval time.Duration `json:"syncInterval"`
	MaxBytes     int64         `json:"maxBytes,omitempty"`
}

// Source is one event of one EventSource. Exactly one of the specs is set.
type Source struct {
	Namespace   string `json:"namespace"`
	EventSource string `json:"eventSource"`
	Event       string `json:"event"`
	Kind        string `json:"kind"`
	// MarkKind tells the source to add the extension openfunctionkind, since another kind has an event of this name.
	MarkKind bool `json:"markKind,omitempty"`

	// Bus and Topic are where events go; without a bus they go to Sink, and the source waits for it.
	Bus   string `json:"bus,omitempty"`
	Topic string `json:"topic,omitempty"`

	Sink       *Target  `json:"sink,omitempty"`
	DeadLetter *Target  `json:"deadLetter,omitempty"`
	Delivery   Delivery `json:"delivery,omitzero"`

	HTTP  *HTTP  `json:"http,omitempty"`
	Cron  *Cron  `json:"cron,omitempty"`
	Kafka *Kafka `json:"kafka,omitempty"`
}

// HTTP is v1alpha1.HTTPSpec, defaulted.
type HTTP struct {
	Raw          bool   `json:"raw,omitempty"`
	Type         string `json:"type,omitempty"`
	MaxBodyBytes int64  `json:"maxBodyBytes"`
}

// Cron is v1alpha1.CronSpec, defaulted.
type Cron struct {
	Schedule    string  `json:"schedule"`
	TimeZone    string  `json:"timeZone"`
	Data        *string `json:"data,omitempty"`
	ContentType string  `json:"contentType,omitempty"`
}

// Kafka is v1alpha1.KafkaSpec, parsed, with its secrets.
type Kafka struct {
	Brokers         []string `json:"brokers"`
	Topic           string   `json:"topic"`
	ConsumerGroup   string   `json:"consumerGroup"`
	FromOldest      bool     `json:"fromOldest,omitempty"`
	SASLMechanism   string   `json:"saslMechanism,omitempty"` // empty: no authentication
	Username        string   `json:"username,omitempty"`
	Password        string   `json:"password,omitempty"`
	MaxMessageBytes int64    `json:"maxMessageBytes,omitempty"`
}

// Subscriber is one durable subscription, the condition it fires on and what it then does.
type Subscriber struct {
	// ID names the durable subscription. It stays the same while the Trigger and the subscriber's targets do.
	ID string `json:"id"`
	// Trigger is ns/name. It is empty for the sink of an EventSource that has a bus too; then EventSource is ns/name.
	Trigger     string `json:"trigger,omitempty"`
	EventSource string `json:"eventSource,omitempty"`
	Bus         string `json:"bus"`

	Inputs    []Input        `json:"inputs"`
	Condition string         `json:"condition"`
	Window    time.Duration  `json:"window"`
	Match     v1alpha1.Match `json:"match"`
	// All sends one event that holds all matched ones.
	All bool `json:"all,omitempty"`

	Sink  *Target `json:"sink,omitempty"`
	Topic string  `json:"topic,omitempty"`
	// DeadLetter receives what could not be delivered; without one it goes to DeadLetterTopic of the bus, which is always set.
	DeadLetter      *Target  `json:"deadLetter,omitempty"`
	DeadLetterTopic string   `json:"deadLetterTopic"`
	Delivery        Delivery `json:"delivery"`
}

// Input is a name that conditions use for the events of a topic.
type Input struct {
	Name  string `json:"name"`
	Topic string `json:"topic"`
	// Kind, when set, restricts it to events whose extension openfunctionkind has this value.
	Kind string `json:"kind,omitempty"`
}

// Target is where an event is posted.
type Target struct {
	// Name is what a person calls it: "sink ns/name", or its URL.
	Name string `json:"name"`
	// URL to post to; empty means the event display.
	URL string `json:"url,omitempty"`
	// CACerts are PEM certificates to trust besides the system's.
	CACerts string `json:"caCerts,omitempty"`
}

// Delivery is v1alpha1.DeliverySpec, parsed and defaulted.
type Delivery struct {
	Retry         int           `json:"retry"`
	Timeout       time.Duration `json:"timeout"`
	Linear        bool          `json:"linear,omitempty"`
	BackoffDelay  time.Duration `json:"backoffDelay"`
	RetryAfterMax time.Duration `json:"retryAfterMax"`
}
