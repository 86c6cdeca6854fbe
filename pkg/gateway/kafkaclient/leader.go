package kafkaclient

import (
	"fmt"
	"slices"
	"strings"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
)

// LeaderCure is what to do about a partition that has no leader.
const LeaderCure = "start the broker that has it, or give the topic more replicas"

// Leaderless is a client to which that a partition has no leader is no reason to fail for the others: sarama finds no leader for any, and begins no session.
type Leaderless struct{ sarama.Client }

// RefreshMetadata implements sarama.Client.
func (c Leaderless) RefreshMetadata(topics ...string) error {
	err := c.Client.RefreshMetadata(topics...)
	if onlyLeaderless(err) {
		return nil
	}
	return err
}

// onlyLeaderless tells whether all that is wrong is that there are partitions without a leader.
func onlyLeaderless(err error) bool {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !onlyLeaderless(err) })
	case interface{ Unwrap() error }:
		return onlyLeaderless(e.Unwrap())
	}
	return err == sarama.ErrLeaderNotAvailable
}

// Leaders tells which partitions of a group's topics cannot be read. Its zero value is ready to use.
type Leaders struct {
	told map[string][]int32 // by topic
}

// NoLeader is that partitions cannot be read, while all others are.
type NoLeader struct{ text string }

// Error says which they are, and what to do.
func (n *NoLeader) Error() string { return n.text }

// Judge returns a *NoLeader if a partition had no leader when the client last asked, or nil. It logs that once for each outage, and its end.
func (l *Leaders) Judge(log *zap.SugaredLogger, client sarama.Client, topics []string) error {
	if l.told == nil {
		l.told = map[string][]int32{}
	}
	var missing []string
	for _, topic := range topics {
		all, err := client.Partitions(topic)
		if err != nil {
			continue // others say that the topic is not there
		}
		told, led := l.told[topic], Led(client, topic, all)
		for _, id := range all {
			if slices.Contains(led, id) {
				continue
			}
			missing = append(missing, fmt.Sprintf("topic %s, partition %d", topic, id))
			if !slices.Contains(told, id) {
				l.told[topic] = append(l.told[topic], id)
			}
		}
		log := log.With("topic", topic, "partitions", l.told[topic])
		switch {
		case len(l.told[topic]) > len(told):
			log.Warnw("a partition has no leader, and cannot be read until it has one", "cure", LeaderCure)
		case len(told) > 0 && len(led) == len(all):
			log.Infow("all partitions have a leader again")
			delete(l.told, topic)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &NoLeader{fmt.Sprintf("%s: no leader, so it cannot be read: %s", strings.Join(missing, "; "), LeaderCure)}
}

// Led returns those of a topic's partitions that had a leader when the client last asked.
func Led(client sarama.Client, topic string, partitions []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(partitions), func(id int32) bool { return client.PartitionNotReadable(topic, id) })
}

// NoEnd is that a group which is new to a topic cannot begin, since not all of its partitions say where they end.
func NoEnd(topic string, partitions []int32, ends map[int32]int64) error {
	for _, id := range partitions {
		if _, ok := ends[id]; !ok {
			return fmt.Errorf("topic %s, partition %d: a group that is new to the topic begins at its end, and %w: %s", topic, id, sarama.ErrLeaderNotAvailable, LeaderCure)
		}
	}
	return nil
}
