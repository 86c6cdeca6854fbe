package v1alpha1

import (
	"strconv"
	"strings"
)

func (s *KafkaSpec) validate(r report) {
	if _, err := ParseBrokers(s.Brokers, "9092"); err != nil {
		r.field("brokers").errorf("%v", err)
	}
	r.field("topic").kafkaTopic(s.Topic)
	if len(s.ConsumerGroup) > 255 {
		r.field("consumerGroup").errorf("has %d characters: the most is 255", len(s.ConsumerGroup))
	}
	r.field("initialOffset").oneOf(s.InitialOffset, "newest", "oldest")
	r.sasl(sasl{
		required:  s.AuthRequired,
		mechanism: s.SASLMechanism,
		user:      r.secret("saslUsername", s.SASLUsername, s.SASLUsernameFrom),
		password:  r.secret("saslPassword", s.SASLPassword, s.SASLPasswordFrom),
		oauth:     s.SASLOAuth,
	})
	s.TLS.validate(r.field("tls"))
	r.plain("saslPassword", s.SASLPassword)
	atLeast(r.field("maxMessageBytes"), s.MaxMessageBytes, 1)
	if o := s.ScaleOption; o != nil {
		at := r.field("scaleOption")
		o.GenericScaleOption.validate(at)
		at.field("topic").kafkaTopic(o.Topic)
		at.field("lagThreshold").lagThreshold(o.LagThreshold)
	}
}

var mqttURL = urls{schemes: []string{"tcp", "mqtt", "ssl", "tls", "mqtts", "ws", "wss"}, example: "tcp://mosquitto.default:1883", single: true}

func (s *MQTTSpec) validate(r report) {
	if err := mqttURL.check(s.URL); err != nil {
		r.field("url").errorf("%v", err)
	}
	if _, password := userOf(s.URL); password {
		r.field("url").warnf("holds a password in plain text, which anyone who may read this object can see: use username and passwordFrom")
	}
	r.field("topic").topicFilter(s.Topic)
	between(r.field("qos"), s.QOS, 0, 2)
	if s.Retain != nil {
		r.field("retain").warnf("matters only to who publishes through the event's Dapr Component: leave it out otherwise")
	}
	user := r.secret("username", s.Username, s.UsernameFrom)
	if r.secret("password", nil, s.PasswordFrom) && !user {
		r.field("username").errorf("is empty, but passwordFrom is set: set username or usernameFrom too")
	}
	r.plain("clientKey", s.ClientKey)
	r.tls(s.CACert, s.CACertFrom, s.ClientCert, s.ClientCertFrom, r.secret("clientKey", s.ClientKey, s.ClientKeyFrom))
	r.field("version").oneOf(s.Version, "5", "3.1.1")
	if strings.ContainsAny(s.Group, "/+# ") {
		r.field("group").errorf(`%q cannot be a group: it must not hold "/", "+", "#" or blanks`, s.Group)
	}
	between(r.field("replicas"), s.Replicas, 1, MaxMQTTReplicas)
	if s.Replicas != nil && *s.Replicas > 1 && s.Group == "" {
		r.field("replicas").errorf("is %d, but group is not set, and without one each would get every message: set group, by which they share the messages, whose order is then lost", *s.Replicas)
	}
}

// MaxMQTTReplicas is how many members of a group may receive one event.
const MaxMQTTReplicas = 10

// Members is how many members of its group receive the event; zero without a group.
func (s *MQTTSpec) Members() int {
	switch {
	case s == nil || s.Group == "":
		return 0
	case s.Replicas == nil:
		return 1
	}
	return int(min(max(*s.Replicas, 1), MaxMQTTReplicas)) // whatever an object says that was not validated
}

// topicFilter checks what MQTT subscribes to.
func (r report) topicFilter(filter string) {
	if filter == "" {
		r.errorf("is empty: write a topic, or a filter such as sensors/+/temperature")
		return
	}
	if len(filter) > 65535 || strings.ContainsRune(filter, 0) {
		r.errorf("cannot be a topic filter: it is longer than 65535 bytes or holds a NUL")
		return
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch {
		case strings.Contains(level, "+") && level != "+":
			r.errorf(`%q: "+" stands for one whole level: write it alone between slashes`, filter)
			return
		case strings.Contains(level, "#") && (level != "#" || i != len(levels)-1):
			r.errorf(`%q: "#" stands for all further levels: write it alone and last`, filter)
			return
		}
	}
}

func (s *RedisSpec) validate(r report) {
	if _, err := ParseBrokers(s.RedisHost, "6379"); err != nil {
		r.field("redisHost").errorf("%v", err)
	}
	r.secret("redisPassword", &s.RedisPassword, s.RedisPasswordFrom)
	r.plain("redisPassword", &s.RedisPassword)
	r.secret("redisUsername", s.RedisUsername, s.RedisUsernameFrom)
	r.secret("sentinelUsername", s.SentinelUsername, s.SentinelUsernameFrom)
	r.secret("sentinelPassword", nil, s.SentinelPasswordFrom)
	if s.TLS != nil && s.EnableTLS != nil && !*s.EnableTLS {
		r.field("enableTLS").errorf("is false, but tls says how to use it: set it to true, or leave tls out")
	}
	s.TLS.validate(r.field("tls"))
	s.validateOrigin(r)
	if s.Failover != nil && *s.Failover && (s.SentinelMasterName == nil || *s.SentinelMasterName == "") {
		r.field("sentinelMasterName").errorf("is empty, but failover is true: name the master that the sentinels watch")
	}
	if s.RedisType != nil {
		r.field("redisType").oneOf(*s.RedisType, "node", "cluster")
	}
	s.validateUnused(r)
	if s.IdleCheckFrequency != nil {
		r.field("idleCheckFrequency").warnf("is accepted and not used: a connection that was idle too long is closed when it would be used, leave it out")
	}
	atLeast(r.field("redisDB"), s.RedisDB, 0)
	atLeast(r.field("redisMaxRetries"), s.RedisMaxRetries, -1)
	atLeast(r.field("poolSize"), s.PoolSize, 0)
	atLeast(r.field("minIdleConns"), s.MinIdleConns, 0)
	for name, text := range map[string]*string{
		"redeliverInterval":     s.RedeliverInterval,
		"processingTimeout":     s.ProcessingTimeout,
		"redisMinRetryInterval": s.RedisMinRetryInterval,
		"redisMaxRetryInterval": s.RedisMaxRetryInterval,
		"dialTimeout":           s.DialTimeout,
		"readTimeout":           s.ReadTimeout,
		"writeTimeout":          s.WriteTimeout,
		"poolTimeout":           s.PoolTimeout,
		"maxConnAge":            s.MaxConnAge,
		"idleCheckFrequency":    s.IdleCheckFrequency,
		"idleTimeout":           s.IdleTimeout,
	} {
		if text != nil {
			r.field(name).durationOrMillis(*text)
		}
	}
}

// validateOrigin checks what the events are read from.
func (s *RedisSpec) validateOrigin(r report) {
	var set []string
	for _, origin := range []struct{ name, value string }{
		{"stream", s.Stream}, {"channel", s.Channel}, {"pattern", s.Pattern}, {"list", s.List},
	} {
		if origin.value != "" {
			set = append(set, origin.name)
		}
	}
	if len(set) > 1 {
		r.errorf("reads from %s: keep one, and make another event for the other", strings.Join(set, " and "))
	}
	if s.ConsumerGroup != "" && s.Stream == "" && len(set) > 0 {
		r.field("consumerGroup").errorf("is for a stream, and there is none: set stream in place of %s, or leave consumerGroup out", set[0])
	}
}

// validateUnused warns of what the server or the origin has no use for.
func (s *RedisSpec) validateUnused(r report) {
	failover := s.Failover != nil && *s.Failover
	cluster := s.RedisType != nil && *s.RedisType == "cluster"
	const (
		noSentinel = "is for a Sentinel, and failover is not true: set failover too, or leave it out"
		noRepeat   = "is not used: what is published on a channel comes once; leave it out"
	)
	for _, f := range []struct {
		name   string
		unused bool
		why    string
	}{
		{"redisDB", cluster && !failover && s.RedisDB != nil && *s.RedisDB != 0, "is not used: a cluster has one database only; leave it out"},
		{"redisType", cluster && failover, "is not used, since failover is true: leave one of the two out"},
		{"sentinelMasterName", !failover && s.SentinelMasterName != nil, noSentinel},
		{"sentinelUsername", !failover && s.SentinelUsername != nil, noSentinel},
		{"sentinelUsernameFrom", !failover && s.SentinelUsernameFrom != nil, noSentinel},
		{"sentinelPasswordFrom", !failover && s.SentinelPasswordFrom != nil, noSentinel},
		{"redeliverInterval", s.Channel+s.Pattern != "" && s.RedeliverInterval != nil, noRepeat},
		{"processingTimeout", s.Channel+s.Pattern != "" && s.ProcessingTimeout != nil, noRepeat},
	} {
		if f.unused {
			r.field(f.name).warnf("%s", f.why)
		}
	}
}

// durationOrMillis checks a duration of the original's Redis options, where a number without a unit is milliseconds and -1 switches off.
func (r report) durationOrMillis(text string) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < -1 {
			r.errorf("%q is too small: write -1 to switch it off, or a duration such as 5s", text)
		}
		return
	}
	if _, err := ParseDuration(text); err != nil {
		r.errorf("%v", err)
	}
}
