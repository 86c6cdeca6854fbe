package kafkaclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

const (
	// offsetRetention is for how long brokers are asked to keep an offset, whoever is away: longer than any outage or pause, but what
	// nobody comes back for is gone one day.
	offsetRetention = 10 * 365 * 24 * time.Hour

	// retentionVersion is the last version of a commit that says how long its offsets are kept. Those of later ones are kept for the
	// brokers' offsets.retention.minutes after the group's last member has left.
	retentionVersion = 4

	keyOffsetCommit = 8
)

// Committer commits the offsets of a consumer group. They outlast offsets.retention.minutes, unless the brokers take no commit that says
// so any more. It is for one goroutine at a time.
type Committer struct {
	client  sarama.Client
	group   string
	asked   *sarama.Broker // the coordinator that version is of; nil when it is to be asked again
	version int16

	failing time.Time // since when commits fail, see Judge; zero if they do not
	told    bool      // that they fail
}

// NewCommitter returns a Committer for a group.
func NewCommitter(client sarama.Client, group string) *Committer {
	return &Committer{client: client, group: group}
}

// Request returns an empty commit of the member of the group that session is: a group that has members takes it from nobody else.
func (c *Committer) Request(session sarama.ConsumerGroupSession) *sarama.OffsetCommitRequest {
	r := sarama.NewOffsetCommitRequest(c.client.Config(), c.group)
	r.ConsumerID, r.ConsumerGroupGeneration = session.MemberID(), session.GenerationID()
	return r
}

// Commit sends a request. An error is one of all its partitions; Answer tells how each of them fared. After either the next attempt finds
// the group where it is by then.
func (c *Committer) Commit(r *sarama.OffsetCommitRequest) (*sarama.OffsetCommitResponse, error) {
	coordinator, err := c.client.Coordinator(c.group)
	if err != nil {
		return nil, fmt.Errorf("commit offsets: %w", err)
	}
	response, err := c.send(coordinator, r)
	if err != nil {
		_ = coordinator.Close()
		c.lost()
		return nil, fmt.Errorf("commit offsets: %w", err)
	}
	for _, partitions := range response.Errors {
		for _, err := range partitions {
			if err == sarama.ErrNotCoordinatorForConsumer || err == sarama.ErrConsumerCoordinatorNotAvailable {
				c.lost()
				return response, nil
			}
		}
	}
	return response, nil
}

func (c *Committer) send(coordinator *sarama.Broker, r *sarama.OffsetCommitRequest) (*sarama.OffsetCommitResponse, error) {
	if c.asked != coordinator {
		oldest, err := oldestCommit(coordinator)
		if err != nil {
			return nil, err
		}
		c.asked, c.version = coordinator, r.Version
		if oldest <= retentionVersion {
			c.version = retentionVersion
		}
	}
	r.Version = c.version
	if r.Version == retentionVersion {
		r.RetentionTime = offsetRetention.Milliseconds()
	}
	return coordinator.CommitOffset(r)
}

// lost is called when the group may be another broker's by now, or the broker another one's.
func (c *Committer) lost() {
	c.asked = nil
	_ = c.client.RefreshCoordinator(c.group) // the next attempt says what is wrong
}

// oldestCommit returns the oldest version of a commit that a broker takes.
func oldestCommit(broker *sarama.Broker) (int16, error) {
	answer, err := broker.ApiVersions(&sarama.ApiVersionsRequest{})
	if err != nil {
		return 0, err
	}
	for _, key := range answer.ApiKeys {
		if key.ApiKey == keyOffsetCommit {
			return key.MinVersion, nil
		}
	}
	return 0, sarama.ErrUnsupportedVersion
}

// Answer is what a commit was answered for a partition, nil if it was taken.
func Answer(response *sarama.OffsetCommitResponse, topic string, partition int32) error {
	err, ok := response.Errors[topic][partition]
	switch {
	case !ok:
		return sarama.ErrIncompleteResponse
	case err != sarama.ErrNoError:
		return err
	}
	return nil
}

// IsMoot tells whether a commit fails because the partitions are shared out anew, and the member commits again when it has joined, or
// because the topic was removed.
func IsMoot(err error) bool {
	return errors.Is(err, sarama.ErrUnknownTopicOrPartition) || errors.Is(err, sarama.ErrUnknownMemberId) || errors.Is(err, sarama.ErrIllegalGeneration) ||
		errors.Is(err, sarama.ErrRebalanceInProgress) || errors.Is(err, sarama.ErrFencedInstancedId)
}
