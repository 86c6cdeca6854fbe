package v1alpha1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation"
	"knative.dev/pkg/apis"

	"github.com/openfunction/events/pkg/apis/events"
)

const (
	maxInFlight     = 65536
	maxSyncInterval = time.Minute
)

// minStorage is what a server needs before its first event.
var minStorage = resource.MustParse("64Mi")

// natsIdentifier is what NATS Streaming allows as the id of a cluster or a client.
var natsIdentifier = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Validate returns everything that is wrong with the object after SetDefaults, or nil. Some of it may be only warnings.
func (eb *EventBus) Validate(ctx context.Context) *apis.FieldError {
	if apis.IsInStatusUpdate(ctx) {
		return nil
	}
	r := newReport()
	r.objectName(eb)
	var old *EventBusSpec
	if base, ok := apis.GetBaseline(ctx).(*EventBus); ok && base != nil {
		old = &base.Spec
	}
	return eb.Spec.validateUpdate(r, old, usersFrom(ctx))
}

// Validate returns everything that is wrong with the object after SetDefaults, or nil. Some of it may be only warnings.
func (ceb *ClusterEventBus) Validate(ctx context.Context) *apis.FieldError {
	if apis.IsInStatusUpdate(ctx) {
		return nil
	}
	r := newReport()
	r.objectName(ceb)
	var old *EventBusSpec
	if base, ok := apis.GetBaseline(ctx).(*ClusterEventBus); ok && base != nil {
		old = &base.Spec
	}
	return ceb.Spec.validateUpdate(r, old, usersFrom(ctx))
}

// ForceDelete is the annotation of a bus that may be deleted while it is in use, take the place of another one that is, or have its
// subscriptions named otherwise.
const ForceDelete = events.GroupName + "/force-delete"

type usersKey struct{}

// WithUsers returns a context in which a bus that changes is validated as one that they use: they are named as in a sentence.
func WithUsers(ctx context.Context, users string) context.Context {
	return context.WithValue(ctx, usersKey{}, users)
}

func usersFrom(ctx context.Context) string {
	users, _ := ctx.Value(usersKey{}).(string)
	return users
}

// validateUpdate checks a spec that replaces old, which is nil for a new object. What was valid once stays valid.
func (s *EventBusSpec) validateUpdate(r report, old *EventBusSpec, users string) *apis.FieldError {
	if old != nil {
		old = old.DeepCopy()
		old.setDefaults()
		if equality.Semantic.DeepEqual(old, s) {
			return nil
		}
	}
	at := r.field("spec")
	s.validate(at)
	if old != nil {
		if old.Embedded != nil && s.Embedded != nil {
			s.Embedded.validateUpdate(at.field("embedded"), old.Embedded)
		}
		from, to := old.backends(), s.backends()
		if len(from) == 1 && len(to) == 1 && from[0] != to[0] {
			at.errorf("cannot change from %s to %s, since the events that wait on the one would never reach the other: create a new bus and let its users name that one", from[0], to[0])
		}
		before := newReport()
		if old.validate(before); users != "" && before.result().Filter(apis.ErrorLevel) == nil { // nothing waits on a bus that never worked
			s.validateInUse(at, old, users)
		}
	}
	return r.result()
}

// validateInUse refuses what makes other durable subscriptions of those that users have, and warns of what does so if it leads to another
// broker. plan.SameBroker knows the same fields.
func (s *EventBusSpec) validateInUse(r report, old *EventBusSpec, users string) {
	stays := func(at report, same bool) {
		if !same {
			at.errorf("makes other subscriptions, and what waits in those of %s would not be delivered: delete them first, or set the annotation %s: \"true\" on the bus", users, ForceDelete)
		}
	}
	leads := func(at report, same bool) {
		if !same {
			at.warnf("must lead to the same servers as before: otherwise what waits there for %s is not delivered", users)
		}
	}
	switch {
	case s.NATSStreaming != nil && old.NATSStreaming != nil:
		at, n, o := r.field("natsStreaming"), s.NATSStreaming, old.NATSStreaming
		stays(at.field("natsStreamingClusterID"), n.NATSStreamingClusterID == o.NATSStreamingClusterID)
		stays(at.field("durableSubscriptionName"), n.DurableSubscriptionName == o.DurableSubscriptionName)
		stays(at.field("subscriptionType"), n.SubscriptionType == o.SubscriptionType)
		// A queue's subscriptions belong to no client.
		stays(at.field("consumerID"), n.SubscriptionType != "topic" || o.SubscriptionType != "topic" || equality.Semantic.DeepEqual(n.ConsumerID, o.ConsumerID))
		leads(at.field("natsURL"), n.NATSURL == o.NATSURL)
	case s.JetStream != nil && old.JetStream != nil:
		leads(r.field("jetStream").field("url"), s.JetStream.URL == old.JetStream.URL)
	case s.Kafka != nil && old.Kafka != nil:
		brokers, _ := ParseBrokers(s.Kafka.Brokers, "9092")
		before, _ := ParseBrokers(old.Kafka.Brokers, "9092")
		leads(r.field("kafka").field("brokers"), slices.ContainsFunc(brokers, func(b string) bool { return slices.Contains(before, b) }))
	}
}

// backends names those that are set.
func (s *EventBusSpec) backends() []string {
	var set []string
	for _, b := range []struct {
		name string
		set  bool
	}{
		{"natsStreaming", s.NATSStreaming != nil},
		{"jetStream", s.JetStream != nil},
		{"kafka", s.Kafka != nil},
		{"embedded", s.Embedded != nil},
	} {
		if b.set {
			set = append(set, b.name)
		}
	}
	return set
}

func (s *EventBusSpec) validate(r report) {
	switch set := s.backends(); {
	case len(set) == 0:
		r.errorf("has no backend: set exactly one of natsStreaming, jetStream, kafka or embedded (embedded: {} needs no server)")
	case len(set) > 1:
		r.errorf("has %d backends (%s): keep one, and make another bus for the other", len(set), strings.Join(set, ", "))
	}
	if s.Topic != "" {
		r.field("topic").warnf("is accepted and not used: topics are named after events, leave it out")
	}
	if s.NATSStreaming != nil {
		s.NATSStreaming.validate(r.field("natsStreaming"))
	}
	if s.JetStream != nil {
		s.JetStream.validate(r.field("jetStream"))
	}
	if s.Kafka != nil {
		s.Kafka.validate(r.field("kafka"))
	}
	if s.Embedded != nil {
		s.Embedded.validate(r.field("embedded"))
	}
}

var natsURLs = urls{schemes: []string{"nats", "tls", "ws", "wss"}, example: "nats://nats.default:4222", bare: true}

func (s *NATSStreamingSpec) validate(r report) {
	if err := natsURLs.check(s.NATSURL); err != nil {
		r.field("natsURL").errorf("%v", err)
	}
	s.NATSAccessSpec.validate(r, "natsURL", s.NATSURL)
	if s.NATSStreamingClusterID == "" {
		r.field("natsStreamingClusterID").errorf("is empty: write the cluster id that the server was started with, often stan or test-cluster")
	} else if !natsIdentifier.MatchString(s.NATSStreamingClusterID) {
		r.field("natsStreamingClusterID").errorf(`%q cannot be a cluster id: use the one that the server was started with, of letters, digits, "-" and "_"`, s.NATSStreamingClusterID)
	}
	r.field("subscriptionType").oneOf(s.SubscriptionType, "queue", "topic")
	if strings.ContainsAny(s.DurableSubscriptionName, ": \t\n") {
		r.field("durableSubscriptionName").errorf(`%q cannot be a durable name: it must not hold ":" or blanks`, s.DurableSubscriptionName)
	}
	if s.ConsumerID != nil && !natsIdentifier.MatchString(*s.ConsumerID) {
		r.field("consumerID").errorf(`%q cannot be a client id: use letters, digits, "-" and "_"`, *s.ConsumerID)
	}
	if s.AckWaitTime != nil {
		r.field("ackWaitTime").duration(*s.AckWaitTime, time.Second, 0)
	}
	between(r.field("maxInFlight"), s.MaxInFlight, 1, maxInFlight)
	s.validateStart(r)
	if o := s.ScaleOption; o != nil {
		at := r.field("scaleOption")
		o.GenericScaleOption.validate(at)
		if err := checkHostPort(o.NATSServerMonitoringEndpoint, "8222"); err != nil {
			at.field("natsServerMonitoringEndpoint").errorf("%v", err)
		}
		at.field("lagThreshold").lagThreshold(o.LagThreshold)
	}
}

// validateStart checks where new subscriptions begin. A false is as good as nothing: the original's users wrote it.
func (s *NATSStreamingSpec) validateStart(r report) {
	var set []string
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"deliverNew", s.DeliverNew != nil && *s.DeliverNew},
		{"deliverAll", s.DeliverAll != nil && *s.DeliverAll},
		{"startAtSequence", s.StartAtSequence != nil},
		{"startWithLastReceived", s.StartWithLastReceived != nil && *s.StartWithLastReceived},
		{"startAtTimeDelta", s.StartAtTimeDelta != nil},
		{"startAtTime", s.StartAtTime != nil},
	} {
		if option.set {
			set = append(set, option.name)
		}
	}
	if len(set) > 1 {
		r.errorf("begins subscriptions in %d places (%s): keep one", len(set), strings.Join(set, ", "))
	}
	atLeast(r.field("startAtSequence"), s.StartAtSequence, 1)
	if s.StartAtTimeDelta != nil {
		r.field("startAtTimeDelta").duration(*s.StartAtTimeDelta, time.Nanosecond, 0)
	}
	if s.StartAtTime == nil && s.StartAtTimeFormat != nil {
		r.field("startAtTimeFormat").warnf("is not used: there is no startAtTime that it could be the format of; leave it out")
	}
	if s.StartAtTime != nil {
		if _, err := s.StartTime(); err != nil {
			r.field("startAtTime").errorf("%v", err)
		}
	}
}

// StartTime parses startAtTime, which must be set.
func (s *NATSStreamingSpec) StartTime() (time.Time, error) {
	if s.StartAtTime == nil {
		return time.Time{}, errors.New("startAtTime is not set")
	}
	layout := time.RFC3339
	if s.StartAtTimeFormat != nil {
		layout = cmp.Or(*s.StartAtTimeFormat, layout)
	}
	at, err := time.Parse(layout, *s.StartAtTime)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time of the form %s: correct it, or say with startAtTimeFormat how it is written", *s.StartAtTime, layout)
	}
	return at, nil
}

func (s *JetStreamSpec) validate(r report) {
	if err := natsURLs.check(s.URL); err != nil {
		r.field("url").errorf("%v", err)
	}
	s.NATSAccessSpec.validate(r, "url", s.URL)
	if s.Replicas != nil && *s.Replicas != 1 && *s.Replicas != 3 && *s.Replicas != 5 {
		r.field("replicas").errorf("%d is not possible: a majority must be able to decide, use 1, 3 or 5", *s.Replicas)
	}
	atLeast(r.field("maxBytes"), s.MaxBytes, 1)
	topicRetention(r, s.TopicRetention)
	if s.AckWait != nil {
		r.field("ackWait").duration(*s.AckWait, time.Second, 0)
	}
	between(r.field("maxInFlight"), s.MaxInFlight, 1, maxInFlight)
}

// topicRetention wants no stream that forgets events before their duplicates, which a server refuses to make.
func topicRetention(r report, value *string) {
	if value != nil {
		r.field("topicRetention").duration(*value, 2*time.Minute, 0)
	}
}

func (s *KafkaBusSpec) validate(r report) {
	if _, err := ParseBrokers(s.Brokers, "9092"); err != nil {
		r.field("brokers").errorf("%v", err)
	}
	atLeast(r.field("partitions"), s.Partitions, 1)
	between(r.field("replicationFactor"), s.ReplicationFactor, 1, 1<<15-1)
	r.sasl(sasl{
		required:  s.AuthRequired,
		mechanism: s.SASLMechanism,
		user:      r.secret("saslUsername", s.SASLUsername, s.SASLUsernameFrom),
		password:  r.secret("saslPassword", nil, s.SASLPasswordFrom),
		oauth:     s.SASLOAuth,
	})
	s.TLS.validate(r.field("tls"))
	if s.Retention != nil {
		r.field("retention").duration(*s.Retention, time.Minute, 0)
	}
	between(r.field("maxInFlight"), s.MaxInFlight, 1, maxInFlight)
}

// validateUpdate refuses what the servers of a bus cannot change once they have events.
func (s *EmbeddedSpec) validateUpdate(r report, old *EmbeddedSpec) {
	const cure = "create a new bus and let its users name that one"
	if !equality.Semantic.DeepEqual(s.Replicas, old.Replicas) {
		r.field("replicas").errorf("cannot be changed: %s", cure)
	}
	if !equality.Semantic.DeepEqual(s.Storage, old.Storage) {
		r.field("storage").errorf("cannot be changed, since the volumes are there: %s", cure)
	}
	if !equality.Semantic.DeepEqual(s.StorageClassName, old.StorageClassName) {
		r.field("storageClassName").errorf("cannot be changed, since the volumes are there: %s", cure)
	}
}

func (s *EmbeddedSpec) validate(r report) {
	if s.SyncInterval != "" && s.SyncInterval != "always" {
		r.field("syncInterval").duration(s.SyncInterval, time.Millisecond, maxSyncInterval)
	}
	atLeast(r.field("maxBytes"), s.MaxBytes, 1)
	topicRetention(r, s.TopicRetention)
	if s.Replicas != nil && *s.Replicas != 1 && *s.Replicas != 3 {
		r.field("replicas").errorf("%d is not possible: a majority must be able to decide, use 1 or 3", *s.Replicas)
	}
	if s.Storage != nil && s.Storage.Cmp(minStorage) < 0 {
		r.field("storage").errorf("%s is too small: the least is %s", s.Storage, &minStorage)
	}
	if s.StorageClassName != nil && validation.NameIsDNSSubdomain(*s.StorageClassName, false) != nil {
		r.field("storageClassName").errorf("%q cannot be the name of a storage class", *s.StorageClassName)
	}
}

// Sync parses syncInterval; zero means before every acknowledgement. A valid spec has no error.
func (s *EmbeddedSpec) Sync() (time.Duration, error) {
	switch s.SyncInterval {
	case "":
		return time.Second, nil
	case "always":
		return 0, nil
	}
	return ParseDuration(s.SyncInterval)
}
