package kafka

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"knative.dev/pkg/logging"
)

// The settings of a topic that decide whether it keeps what it is given.
const (
	cleanupPolicy  = "cleanup.policy"
	minInSync      = "min.insync.replicas"
	retentionTime  = "retention.ms"
	retentionBytes = "retention.bytes"
)

// inspectAge is after how long the topics are looked at again, if somebody asks then.
const inspectAge = 10 * time.Second

// inspect tells, once each, what of the topics is not as the bus asks, and what makes them lose or refuse events. It keeps for Losing what loses some.
func (l *link) inspect(topics ...string) {
	log := logging.FromContext(l.b.ctx).With("bus", l.b.o.Name)
	settings, err := l.settings(topics)
	if err != nil { // the next look tries again
		log.Debugw("inspect topics", "topics", topics, "error", err)
		return
	}
	for _, topic := range topics {
		if err := l.inspectOne(topic, settings[topic]); err != nil {
			log.Debugw("inspect topic", "topic", topic, "error", err)
		}
	}
}

func (l *link) inspectOne(topic string, settings map[string]string) error {
	partitions, replicas, err := l.extent(topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) { // it was deleted
		l.b.keepLosing(topic, nil)
	}
	if err != nil {
		return err
	}
	c := l.b.o.Config
	log := logging.FromContext(l.b.ctx).With("bus", l.b.o.Name, "topic", topic)
	warn := func(what string, args ...any) {
		if _, told := l.b.told.LoadOrStore(fmt.Sprint(topic, what, args), true); !told {
			log.Warnw(what, args...)
		}
	}
	if partitions < int(c.Partitions) { // more are not added: events with one key would go to another partition than those before them
		warn("the topic has fewer partitions than the bus asks for, and is used as it is: add some, or correct partitions",
			"partitions", partitions, "wanted", c.Partitions)
	}
	if replicas < int(c.ReplicationFactor) {
		warn("the topic has fewer replicas than the bus asks for, and is used as it is: add some, or correct replicationFactor",
			"replicas", replicas, "wanted", c.ReplicationFactor)
	}
	if least, err := strconv.Atoi(settings[minInSync]); err == nil && least > replicas {
		warn("the topic has fewer replicas than its min.insync.replicas, so brokers before Kafka 3.7 take no event: add some, or lower that setting",
			"replicas", replicas, minInSync, least)
	}
	var loses []string
	if policy := settings[cleanupPolicy]; strings.Contains(policy, "compact") {
		const why = "the topic is compacted, so events are deleted when another one with the same partitionkey comes, and refused when they have none: "
		warn(why+"set its cleanup.policy to delete", cleanupPolicy, policy)
		loses = append(loses, why+alter(topic, cleanupPolicy, "delete"))
	}
	if strings.Contains(settings[cleanupPolicy], "delete") {
		kept := func(what string, why string) {
			warn(why, "retention", c.Retention.String(), what, settings[what])
			loses = append(loses, fmt.Sprintf("%s (%s=%s)", why, what, settings[what]))
		}
		if ms, err := strconv.ParseInt(settings[retentionTime], 10, 64); err == nil && ms >= 0 && ms < c.Retention.Milliseconds() {
			kept(retentionTime, "the topic keeps events for less time than the bus's retention, and then deletes them, delivered or not: lower retention, or "+
				alter(topic, retentionTime, strconv.FormatInt(c.Retention.Milliseconds(), 10)))
		}
		if bytes, err := strconv.ParseInt(settings[retentionBytes], 10, 64); err == nil && bytes >= 0 {
			kept(retentionBytes, "the topic deletes the oldest events of a partition that is too large, delivered or not, however short they were kept: "+
				alter(topic, retentionBytes, "-1"))
		}
	}
	l.b.keepLosing(topic, loses)
	return nil
}

// keepLosing keeps for Losing how a topic loses events, if it does.
func (b *Bus) keepLosing(topic string, loses []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.losing, topic)
	if loses != nil {
		b.losing[topic] = strings.Join(loses, "; ")
	}
}

// alter is how a person changes a setting of a topic.
func alter(topic, setting, value string) string {
	return fmt.Sprintf("kafka-configs.sh --alter --topic %s --add-config %s=%s", topic, setting, value)
}

// Losing implements bus.Bus.
func (b *Bus) Losing() string {
	b.mu.Lock()
	l := b.current
	topics := slices.Sorted(maps.Keys(b.losing))
	losing := ""
	if len(topics) > 0 {
		losing = "topic " + topics[0] + " loses events: " + b.losing[topics[0]]
	}
	if more := len(topics) - 1; more > 0 {
		losing += fmt.Sprintf("; and %d more", more)
	}
	again := l != nil && time.Since(b.inspected) > inspectAge
	if again {
		b.inspected = time.Now()
	}
	b.mu.Unlock()
	if again {
		l.inspectAgain()
	}
	return losing
}

// inspectAgain looks at all topics that are in use, whose settings a person may have changed, and forgets the others. It does not wait for that.
func (l *link) inspectAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.mu.Lock()
	maps.DeleteFunc(l.b.losing, func(topic, _ string) bool { return l.topics[topic] == nil })
	l.b.mu.Unlock()
	topics := slices.Sorted(maps.Keys(l.topics))
	if l.closed || len(topics) == 0 {
		return
	}
	l.work.Go(func() { l.inspect(topics...) })
}

// extent is how many partitions a topic has, and how many replicas that one of them which has the fewest.
func (l *link) extent(topic string) (partitions, replicas int, err error) {
	ids, err := l.client.Partitions(topic)
	if err != nil {
		return 0, 0, err
	}
	replicas = math.MaxInt
	for _, id := range ids {
		all, err := l.client.Replicas(topic, id)
		if err != nil && !errors.Is(err, sarama.ErrReplicaNotAvailable) {
			return 0, 0, err
		}
		replicas = min(replicas, len(all))
	}
	return len(ids), replicas, nil
}

// settings are those that inspect looks at, by topic, or none of a topic if the bus's user may not see them.
func (l *link) settings(topics []string) (map[string]map[string]string, error) {
	admin, err := l.administrator()
	if err != nil {
		return nil, err
	}
	var asked []*sarama.ConfigResource
	for _, topic := range topics {
		asked = append(asked, &sarama.ConfigResource{
			Type: sarama.TopicResource, Name: topic, ConfigNames: []string{cleanupPolicy, minInSync, retentionTime, retentionBytes},
		})
	}
	results, err := admin.DescribeConfigs(asked, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	settings := map[string]map[string]string{}
	for _, r := range results {
		if r.ErrorCode != sarama.ErrNoError { // most likely the settings are not for us
			logging.FromContext(l.b.ctx).Debugw("inspect topic", "bus", l.b.o.Name, "topic", r.Name, "error", fmt.Errorf("describe its settings: %w", r.ErrorCode))
		}
		settings[r.Name] = map[string]string{}
		for _, entry := range r.Configs {
			settings[r.Name][entry.Name] = entry.Value
		}
	}
	return settings, nil
}
