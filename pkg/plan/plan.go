// Package plan turns the declared objects into a Plan, the flat contract between those who declare and the data plane that runs it.
package plan

import (
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// Plan is everything that a gateway runs. It is JSON, holds resolved secrets, and is the same for the same objects in any order. What is
// tagged secret:"value", or secret:"url" for what HideURL hides, is never printed; with secret:"url,F" all of it is not while the field F is true.
type Plan struct {
	Buses       []Bus        `json:"buses,omitempty"`
	Sources     []Source     `json:"sources,omitempty"`
	Subscribers []Subscriber `json:"subscribers,omitempty"`
	// Retired are subscriptions that earlier plans had and nobody will come back for: they are removed from their buses.
	Retired []Retired `json:"retired,omitempty"`
	// Waiting are declared subscribers that cannot run just now: what runs for them already goes on, see Succeed. Only ID, Key, Trigger,
	// EventSource, Condition and, if they are known, Inputs are set. A plan remembers them: those that wait together are not heirs of one another.
	Waiting []Subscriber `json:"waiting,omitempty"`
	// WaitingSources are the same of sources, by what tells sources apart, with Why. Nothing runs for them in a plan that follows on another.
	// Encode keeps those of http, as notes: who posts them is told to try again.
	WaitingSources []Source `json:"-"`
	// Remembered are the subscriptions that the statuses of the declared objects name, of which only ID and Key are set. They count when the plan
	// before is gone. They are only known of a plan that was just compiled.
	Remembered []Subscriber `json:"-"`
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
	Kafka         *KafkaBus      `json:"kafka,omitempty"`
	Embedded      *Embedded      `json:"embedded,omitempty"`
}

// NATSAccess is how a NATS server lets a client in: by a user name and password, a token, the content of a credentials file, or an
// nkey's seed. At most one of the four is set.
type NATSAccess struct {
	Username    string `json:"username,omitempty"`
	Password    string `json:"password,omitempty" secret:"value"`
	Token       string `json:"token,omitempty" secret:"value"`
	Credentials string `json:"credentials,omitempty" secret:"value"`
	NKeySeed    string `json:"nkeySeed,omitempty" secret:"value"`
	TLS         *TLS   `json:"tls,omitempty"`
}

// NATSStreaming is v1alpha1.NATSStreamingSpec, parsed.
type NATSStreaming struct {
	NATSAccess
	URL          string        `json:"url" secret:"url"`
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
	NATSAccess
	URL      string `json:"url" secret:"url"`
	Replicas int    `json:"replicas"`
	MaxBytes int64  `json:"maxBytes,omitempty"`
	// TopicRetention is how long the topics of subscribers keep events; zero means seven days, or what a topic that is there has.
	TopicRetention time.Duration `json:"topicRetention,omitempty"`
	AckWait        time.Duration `json:"ackWait"`
	MaxInFlight    int           `json:"maxInFlight"`
}

// KafkaBus is v1alpha1.KafkaBusSpec, parsed, with its secrets.
type KafkaBus struct {
	KafkaAccess
	// Partitions and ReplicationFactor of the topics that are made; Retention is how long they keep events.
	Partitions        int32         `json:"partitions"`
	ReplicationFactor int16         `json:"replicationFactor"`
	Retention         time.Duration `json:"retention"`
	MaxInFlight       int           `json:"maxInFlight"`
}

// KafkaAccess is where a Kafka cluster is and how it lets a client in.
type KafkaAccess struct {
	Brokers       []string `json:"brokers"`
	SASLMechanism string   `json:"saslMechanism,omitempty"` // empty: no authentication
	Username      string   `json:"username,omitempty"`
	Password      string   `json:"password,omitempty" secret:"value"`
	OAuth         *OAuth   `json:"oauth,omitempty"` // set if the mechanism is OAUTHBEARER
	TLS           *TLS     `json:"tls,omitempty"`
}

// OAuth is how a client gets tokens: the client credentials grant of RFC 6749, section 4.4.
type OAuth struct {
	TokenURL     string   `json:"tokenURL" secret:"url"`
	ClientID     string   `json:"clientID"`
	ClientSecret string   `json:"clientSecret" secret:"value"`
	Scopes       []string `json:"scopes,omitempty"`
	CACerts      string   `json:"caCerts,omitempty"`
}

// Embedded is v1alpha1.EmbeddedSpec, parsed.
type Embedded struct {
	// SyncInterval is how often to force data to disk; zero means before every acknowledgement.
	SyncInterval time.Duration `json:"syncInterval"`
	MaxBytes     int64         `json:"maxBytes,omitempty"`
	// TopicRetention is JetStream's.
	TopicRetention time.Duration `json:"topicRetention,omitempty"`
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
	Redis *Redis `json:"redis,omitempty"`
	MQTT  *MQTT  `json:"mqtt,omitempty"`

	// Why is, of one that waits or Needs something, what whoever posts events may be told: the field or the bus, and nothing of Secrets.
	Why string `json:"-"`
	// Needs is, while its sink waits for a Secret, what would be the ID of the sink's subscription: without it nobody would keep what is published for
	// the sink. It is only known of a plan that was just compiled; see Succeed.
	Needs string `json:"-"`
}

// HTTP is v1alpha1.HTTPSpec, defaulted.
type HTTP struct {
	Raw bool `json:"raw,omitempty"`
	// ID, Type, Source and Subject are templates, see event.Template, for raw bodies; empty ones have their defaults.
	ID           string     `json:"id,omitempty"`
	Type         string     `json:"type,omitempty"`
	Source       string     `json:"source,omitempty"`
	Subject      string     `json:"subject,omitempty"`
	MaxBodyBytes int64      `json:"maxBodyBytes"`
	Auth         *HTTPAuth  `json:"auth,omitempty"`
	RateLimit    *RateLimit `json:"rateLimit,omitempty"`
}

// HTTPAuth is what a request must show. Exactly one is set. Secrets are lists, so that a new one is accepted before the old one is gone.
type HTTPAuth struct {
	Bearer *Bearer `json:"bearer,omitempty"`
	Basic  *Basic  `json:"basic,omitempty"`
	HMAC   *HMAC   `json:"hmac,omitempty"`
	OIDC   *OIDC   `json:"oidc,omitempty"`
}

// Bearer is a token in the header Authorization.
type Bearer struct {
	Tokens []string `json:"tokens" secret:"value"`
}

// Basic is a user name and one of these passwords.
type Basic struct {
	Username  string   `json:"username"`
	Passwords []string `json:"passwords" secret:"value"`
}

// HMAC is a signature over the body.
type HMAC struct {
	// Scheme is github or stripe.
	Scheme  string   `json:"scheme"`
	Secrets []string `json:"secrets" secret:"value"`
	// Tolerance is how old a signature may be, where the scheme has a time.
	Tolerance time.Duration `json:"tolerance,omitempty"`
}

// OIDC is a JSON Web Token of an issuer in the header Authorization.
type OIDC struct {
	Issuer   string   `json:"issuer"`
	Audience string   `json:"audience"`
	Subjects []string `json:"subjects,omitempty"` // empty: any
	CACerts  string   `json:"caCerts,omitempty"`
}

// RateLimit bounds the events of one process: so many in a second, and Burst at once.
type RateLimit struct {
	PerSecond float64 `json:"perSecond"`
	Burst     int     `json:"burst"`
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
	KafkaAccess
	Topic           string `json:"topic"`
	ConsumerGroup   string `json:"consumerGroup"`
	FromOldest      bool   `json:"fromOldest,omitempty"`
	MaxMessageBytes int64  `json:"maxMessageBytes,omitempty"`
}

// Redis is v1alpha1.RedisSpec, parsed, with its secrets. Exactly one of Stream, Channel, Pattern and List is set. Durations and counts
// that are zero have the client library's defaults, and what is below zero is switched off.
type Redis struct {
	// Addresses are of the server, of the Sentinels if MasterName is set, or of nodes of a cluster.
	Addresses        []string `json:"addresses"`
	MasterName       string   `json:"masterName,omitempty"`
	Cluster          bool     `json:"cluster,omitempty"`
	Username         string   `json:"username,omitempty"`
	Password         string   `json:"password,omitempty" secret:"value"`
	SentinelUsername string   `json:"sentinelUsername,omitempty"`
	SentinelPassword string   `json:"sentinelPassword,omitempty" secret:"value"`
	TLS              *TLS     `json:"tls,omitempty"`
	DB               int      `json:"db,omitempty"`

	Stream        string `json:"stream,omitempty"`
	ConsumerGroup string `json:"consumerGroup,omitempty"` // set if Stream is
	Channel       string `json:"channel,omitempty"`
	Pattern       string `json:"pattern,omitempty"`
	List          string `json:"list,omitempty"`

	RedeliverInterval time.Duration `json:"redeliverInterval"`
	ProcessingTimeout time.Duration `json:"processingTimeout"`

	MaxRetries       int           `json:"maxRetries,omitempty"`
	MinRetryInterval time.Duration `json:"minRetryInterval,omitempty"`
	MaxRetryInterval time.Duration `json:"maxRetryInterval,omitempty"`
	DialTimeout      time.Duration `json:"dialTimeout,omitempty"`
	ReadTimeout      time.Duration `json:"readTimeout,omitempty"`
	WriteTimeout     time.Duration `json:"writeTimeout,omitempty"`
	PoolSize         int           `json:"poolSize,omitempty"`
	PoolTimeout      time.Duration `json:"poolTimeout,omitempty"`
	MinIdleConns     int           `json:"minIdleConns,omitempty"`
	MaxConnAge       time.Duration `json:"maxConnAge,omitempty"`
	IdleTimeout      time.Duration `json:"idleTimeout,omitempty"`
}

// MaxMembers is how many members of an MQTT event's group there can be.
const MaxMembers = v1alpha1.MaxMQTTReplicas

// MQTT is v1alpha1.MQTTSpec, parsed, with its secrets.
type MQTT struct {
	URL   string `json:"url" secret:"url"`
	Topic string `json:"topic"`
	// Version of the protocol: 5, or 3 for 3.1.1.
	Version int `json:"version"`
	// Group shares the messages of a topic between processes ($share); empty does not.
	Group string `json:"group,omitempty"`
	// Members are how many of the group receive this event, and this is Member, from 0 on. Zero means that nobody has counted them.
	Members int `json:"members,omitempty"`
	Member  int `json:"member,omitempty"`
	// ClientID of the session. With a group each member adds its number to it, and one that has none the instance of its process.
	ClientID     string `json:"clientID"`
	QOS          byte   `json:"qos"`
	CleanSession bool   `json:"cleanSession,omitempty"`
	Username     string `json:"username,omitempty"`
	Password     string `json:"password,omitempty" secret:"value"`
	TLS          *TLS   `json:"tls,omitempty"`
}

// Subscriber is one durable subscription, the condition it fires on and what it then does.
type Subscriber struct {
	// ID names the durable subscription. It stays the same while the Trigger and the subscriber's targets do, and when it inherits another one's.
	ID string `json:"id"`
	// Key is what ID would be had it not been inherited; empty if it was not.
	Key string `json:"key,omitempty"`
	// Trigger is ns/name. It is empty for the sink of an EventSource that has a bus too; then EventSource is ns/name.
	Trigger     string `json:"trigger,omitempty"`
	EventSource string `json:"eventSource,omitempty"`
	Bus         string `json:"bus,omitempty"`

	Inputs    []Input        `json:"inputs,omitempty"`
	Condition string         `json:"condition"`
	Window    time.Duration  `json:"window,omitempty"`
	Match     v1alpha1.Match `json:"match,omitempty"`
	// All sends one event that holds all matched ones.
	All bool `json:"all,omitempty"`

	Sink  *Target `json:"sink,omitempty"`
	Topic string  `json:"topic,omitempty"`
	// DeadLetter receives what could not be delivered; without one it goes to DeadLetterTopic of the bus, which is always set.
	DeadLetter      *Target  `json:"deadLetter,omitempty"`
	DeadLetterTopic string   `json:"deadLetterTopic,omitempty"`
	Delivery        Delivery `json:"delivery,omitzero"`
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
	Name string `json:"name" secret:"url"`
	// URL to post to; empty means the event display.
	URL string `json:"url,omitempty" secret:"url,Secret"`
	// Secret tells that URL comes from a Secret: nothing of it may be shown.
	Secret bool `json:"secret,omitempty"`
	// CACerts are PEM certificates to trust besides the system's.
	CACerts string `json:"caCerts,omitempty"`
}

// Address is what dead letters and logs call where t leads: its URL without what may be secret.
func (t *Target) Address() string {
	if t.URL == "" || t.Secret {
		return t.Name
	}
	return HideURL(t.URL)
}

// TLS secures a connection. A connection that has none is not secured, unless its URL says so.
type TLS struct {
	// CACerts are PEM certificates to trust besides the system's.
	CACerts string `json:"caCerts,omitempty"`
	// Cert and Key are what the client shows, PEM.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty" secret:"value"`
	// ServerName to expect in the server's certificate; empty means the host that was dialed.
	ServerName string `json:"serverName,omitempty"`
}

// Delivery is v1alpha1.DeliverySpec, parsed and defaulted.
type Delivery struct {
	Retry         int           `json:"retry"`
	Timeout       time.Duration `json:"timeout"`
	Linear        bool          `json:"linear,omitempty"`
	BackoffDelay  time.Duration `json:"backoffDelay"`
	RetryAfterMax time.Duration `json:"retryAfterMax"`
	// KeyOrder delivers events of one partitionkey one after the other.
	KeyOrder bool `json:"keyOrder,omitempty"`
}
