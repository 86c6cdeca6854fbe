package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// appearTime bounds the wait for a topic that was made a moment ago.
const appearTime = 10 * time.Second

// errLost is why what was under way when the connection was lost did not end.
var errLost = errors.New("the connection was lost")

// made is the question whether a topic exists: the answer, once done is closed.
type made struct {
	done chan struct{}
	err  error
}

// ensure returns nil once the topic, whose name was checked, exists, and makes it if it does not. All who ask at once share one answer; a bad one is not kept.
func (l *link) ensure(ctx context.Context, topic string) error {
	m := l.ask(topic)
	if m == nil {
		return errLost
	}
	select {
	case <-m.done:
		return m.err
	case <-l.lost:
		return errLost
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *link) ask(topic string) *made {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.topics[topic]; m != nil {
		return m
	}
	if l.closed {
		return nil
	}
	m := &made{done: make(chan struct{})}
	l.topics[topic] = m
	l.work.Go(func() {
		if m.err = l.create(topic); m.err != nil {
			m.err = fmt.Errorf("topic %s: %w", topic, m.err)
			l.forget(topic)
		}
		close(m.done)
		if m.err == nil {
			l.inspect(topic) // nobody waits for that
		}
	})
	return m
}

// forget makes the next ensure ask the brokers again.
func (l *link) forget(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, topic)
}

// create makes the topic if there is none. One that is there is used as it is.
func (l *link) create(topic string) error {
	err := l.client.RefreshMetadata(topic)
	if err == nil || l.leadsSome(topic, err) {
		return nil
	}
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return l.b.explain(err)
	}
	admin, err := l.administrator()
	if err != nil {
		return l.b.explain(err)
	}
	if err := admin.CreateTopic(topic, l.b.detail(), false); err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return l.refusal(err)
	}
	for deadline := time.Now().Add(appearTime); ; {
		if err = l.client.RefreshMetadata(topic); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return l.b.explain(err)
		}
		select {
		case <-l.lost:
			return errLost
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// leadsSome tells whether an error is only that some partitions of the topic have no leader: it takes events on all others.
func (l *link) leadsSome(topic string, err error) bool {
	if !errors.Is(err, sarama.ErrLeaderNotAvailable) {
		return false
	}
	some, err := l.client.WritablePartitions(topic)
	return err == nil && len(some) > 0
}

func (l *link) administrator() (sarama.ClusterAdmin, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.admin == nil {
		// It wants metadata first, and must not be closed: that would close the client too.
		admin, err := sarama.NewClusterAdminFromClient(l.client)
		if err != nil {
			return nil, err
		}
		l.admin = admin
	}
	return l.admin, nil
}

// detail is that of a new topic.
func (b *Bus) detail() *sarama.TopicDetail {
	c := b.o.Config
	replicas := max(1, c.ReplicationFactor)
	value := func(s string) *string { return &s }
	entries := map[string]*string{
		cleanupPolicy: value("delete"), // the brokers' default may keep the latest of each key only
		// The age of an event counts from when the bus has it, whatever the publisher's clock says.
		"message.timestamp.type": value("LogAppendTime"),
	}
	if c.Retention > 0 {
		entries["retention.ms"] = value(strconv.FormatInt(c.Retention.Milliseconds(), 10))
	}
	if replicas != 2 { // of two, whether one alone may take events is the brokers' default
		entries[minInSync] = value(strconv.Itoa(int(replicas)/2 + 1)) // an acknowledged event outlives a broker
	}
	return &sarama.TopicDetail{NumPartitions: max(1, c.Partitions), ReplicationFactor: replicas, ConfigEntries: entries}
}

// refusal says why the brokers do not make a topic.
func (l *link) refusal(err error) error {
	c := l.b.o.Config
	switch {
	case errors.Is(err, sarama.ErrInvalidReplicationFactor):
		return fmt.Errorf("it cannot have %d replicas (%w): lower replicationFactor, or start the brokers that are missing", c.ReplicationFactor, err)
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return fmt.Errorf("it does not exist and the bus may not make it (%w): make it, or allow the bus's user to create topics", err)
	case errors.Is(err, sarama.ErrPolicyViolation):
		return fmt.Errorf("it does not exist and the brokers do not want one with %d partitions and %d replicas (%w): make it, or correct partitions and replicationFactor",
			c.Partitions, c.ReplicationFactor, err)
	}
	return fmt.Errorf("make it: %w", l.b.explain(err))
}

const maxTopic = 249

// checkTopic says what the brokers' answer would be, but in words and without asking them.
func checkTopic(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxTopic {
		return fmt.Errorf("topic %.60q: cannot be a Kafka topic: use up to %d letters, digits, \".\", \"-\" and \"_\"", name, maxTopic)
	}
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
			return fmt.Errorf("topic %.60q: %q cannot be in the name of a Kafka topic: use letters, digits, \".\", \"-\" and \"_\"", name, c)
		}
	}
	return nil
}
