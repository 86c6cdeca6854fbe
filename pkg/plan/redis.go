package plan

import (
	"cmp"
	"strconv"
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// How often a stream is searched for entries that nobody acknowledges, and after how long one counts as abandoned.
const (
	defaultRedeliverInterval = 15 * time.Second
	defaultProcessingTimeout = time.Minute
)

func redisSource(r *reader, path string, s *Source, spec *v1alpha1.RedisSpec) *Redis {
	spec = cmp.Or(spec, &v1alpha1.RedisSpec{})
	addresses, err := v1alpha1.ParseBrokers(spec.RedisHost, "6379")
	if err != nil {
		r.problem(path+".redisHost", ReasonInvalid, "%v", err)
	}
	interval := func(name string, text *string) time.Duration { return r.interval(path+"."+name, value(text, "")) }
	p := &Redis{
		Addresses:         addresses,
		Cluster:           value(spec.RedisType, "") == "cluster",
		Username:          r.secret(path+".redisUsernameFrom", spec.RedisUsernameFrom, spec.RedisUsername),
		Password:          r.secret(path+".redisPasswordFrom", spec.RedisPasswordFrom, &spec.RedisPassword),
		TLS:               r.tls(path+".tls", spec.TLS),
		DB:                int(value(spec.RedisDB, 0)),
		Stream:            spec.Stream,
		Channel:           spec.Channel,
		Pattern:           spec.Pattern,
		List:              spec.List,
		RedeliverInterval: cmp.Or(interval("redeliverInterval", spec.RedeliverInterval), defaultRedeliverInterval),
		ProcessingTimeout: cmp.Or(interval("processingTimeout", spec.ProcessingTimeout), defaultProcessingTimeout),
		MaxRetries:        int(value(spec.RedisMaxRetries, 0)),
		MinRetryInterval:  interval("redisMinRetryInterval", spec.RedisMinRetryInterval),
		MaxRetryInterval:  interval("redisMaxRetryInterval", spec.RedisMaxRetryInterval),
		DialTimeout:       interval("dialTimeout", spec.DialTimeout),
		ReadTimeout:       interval("readTimeout", spec.ReadTimeout),
		WriteTimeout:      interval("writeTimeout", spec.WriteTimeout),
		PoolSize:          int(value(spec.PoolSize, 0)),
		PoolTimeout:       interval("poolTimeout", spec.PoolTimeout),
		MinIdleConns:      int(value(spec.MinIdleConns, 0)),
		MaxConnAge:        interval("maxConnAge", spec.MaxConnAge),
		IdleTimeout:       interval("idleTimeout", spec.IdleTimeout),
	}
	if value(spec.Failover, false) {
		p.MasterName = value(spec.SentinelMasterName, "")
		p.SentinelUsername = r.secret(path+".sentinelUsernameFrom", spec.SentinelUsernameFrom, spec.SentinelUsername)
		p.SentinelPassword = r.secret(path+".sentinelPasswordFrom", spec.SentinelPasswordFrom, nil)
	}
	if p.TLS == nil && value(spec.EnableTLS, false) {
		p.TLS = &TLS{}
	}
	if p.Channel == "" && p.Pattern == "" && p.List == "" {
		p.Stream = cmp.Or(p.Stream, s.Event)
		p.ConsumerGroup = cmp.Or(spec.ConsumerGroup, v1alpha1.DefaultConsumer(s.Namespace, s.EventSource, s.Kind, s.Event))
	}
	return p
}

// interval reads a duration of the original's Redis options, where a number without a unit is milliseconds and -1 switches off.
func (r *reader) interval(path, text string) time.Duration {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 {
			return -1
		}
		return time.Duration(n) * time.Millisecond
	}
	return r.duration(path, text, 0)
}
