package kafka

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
	"knative.dev/pkg/logging"
)

// The settings of a topic that decide whether it keeps what it is given.
const (
	cleanupPolicy = "cleanup.policy"
	minInSync     = "min.insync.replicas"
)

// inspect tells, once for each topic, what of it is not as the bus asks, and what makes it lose or refuse events.
func (l *link) inspect(topic string) {
	if _, known := l.b.inspected.LoadOrStore(topic, true); known {
		return
	}
	if err := l.tryInspect(topic); err != nil {
		l.b.inspected.Delete(topic) // the next connection tries again
		logging.FromContext(l.b.ctx).Debugw("inspect topic", "bus", l.b.o.Name, "topic", topic, "error", err)
	}
}

func (l *link) tryInspect(topic string) error {
	partitions, replicas, err := l.extent(topic)
	if err != nil {
		return err
	}
	settings, err := l.settings(topic)
	if err != nil {
		return err
	}
	c := l.b.o.Config
	warn := logging.FromContext(l.b.ctx).With("bus", l.b.o.Name, "topic", topic).Warnw
	if partitions < int(c.Partitions) { // more are not added: events with one key would go to another partition than those before them
		warn("the topic has fewer partitions than the bus asks for, and is used as it is: add some, or correct partitions",
			"partitions", partitions, "wanted", c.Partitions)
	}
	if replicas < int(c.ReplicationFactor) {
		warn("the topic has fewer replicas than the bus asks for, and is used as it is: add some, or correct replicationFactor",
			"replicas", replicas, "wanted", c.ReplicationFactor)
	}
	if policy := settings[cleanupPolicy]; strings.Contains(policy, "compact") {
		warn("the topic is compacted, so events are deleted when another one with the same partitionkey comes, and refused when they have none: "+
			"set its cleanup.policy to delete", cleanupPolicy, policy)
	}
	if least, err := strconv.Atoi(settings[minInSync]); err == nil && least > replicas {
		warn("the topic has fewer replicas than its min.insync.replicas, so brokers before Kafka 3.7 take no event: add some, or lower that setting",
			"replicas", replicas, minInSync, least)
	}
	return nil
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

// settings are those that inspect looks at, or none if the bus's user may not see them.
func (l *link) settings(topic string) (map[string]string, error) {
	admin, err := l.administrator()
	if err != nil {
		return nil, err
	}
	results, err := admin.DescribeConfigs([]*sarama.ConfigResource{
		{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{cleanupPolicy, minInSync}},
	}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, r := range results {
		if r.ErrorCode == sarama.ErrTopicAuthorizationFailed {
			logging.FromContext(l.b.ctx).Debugw("the settings of the topic are not for us", "bus", l.b.o.Name, "topic", topic)
		} else if r.ErrorCode != sarama.ErrNoError {
			return nil, fmt.Errorf("describe its settings: %w", r.ErrorCode)
		}
		for _, entry := range r.Configs {
			settings[entry.Name] = entry.Value
		}
	}
	return settings, nil
}
