package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// member is what a session of the group calls.
type member struct {
	*run
	begin  map[int32]int64       // by partition, where to begin
	finish func(context.Context) // see kafkaclient.CommitRegularly; nil before Setup has succeeded

	mu     sync.Mutex
	marked map[int32]int64 // by partition: everything before it is done, and that is not committed yet
}

// Setup is called when the group has been balanced and before the session reads.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	if partitions := session.Claims()[m.kafka.Topic]; len(partitions) > 0 {
		if err := m.take(session, partitions); err != nil {
			return err
		}
		m.judge(session, nil)
	}
	// Also without a partition: whoever has it has done the same.
	m.tell()
	m.finish = kafkaclient.CommitRegularly(func() error {
		m.tell()
		err := m.commit(session)
		m.judge(session, err)
		return err
	})
	return nil
}

// ConsumeClaim reads one partition until the session ends.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if _, ok := m.begin[claim.Partition()]; !ok {
		return nil // its leader is back, and the next session asks it where to begin
	}
	p := newPartition(m.run, func(offset int64) { m.mark(claim.Partition(), offset) })
	if claim.InitialOffset() == sarama.OffsetOldest {
		m.mark(claim.Partition(), 0) // the topic may reach what was committed before anything is done
		m.log.Warnw("what the group has committed is not in the topic, which is read from its oldest record: it keeps records too short a time, or the "+
			"source is too slow", "partition", claim.Partition())
	}
	p.read(session.Context(), claim.Messages())
	return nil
}

// Cleanup commits what was done until now, as the last thing before the partitions may go to other members.
func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	if m.finish != nil {
		m.finish(context.WithoutCancel(session.Context())) // which is done by now
	}
	return nil
}

// mark notes that everything before an offset is done.
func (m *member) mark(partition int32, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marked[partition] = offset
}

// commit commits what was marked. What the brokers do not take stays marked.
func (m *member) commit(session sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	marked := maps.Clone(m.marked)
	m.mu.Unlock()
	if len(marked) == 0 {
		return nil
	}
	request := m.committer.Request(session)
	for p, offset := range marked {
		request.AddBlockWithLeaderEpoch(m.kafka.Topic, p, offset, -1, 0, m.signature())
	}
	response, err := m.committer.Commit(request)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var failed error
	for p, offset := range marked {
		if err := kafkaclient.Answer(response, m.kafka.Topic, p); err != nil {
			failed = fmt.Errorf("commit offset of partition %d: %w", p, err)
		} else if m.marked[p] == offset {
			delete(m.marked, p)
		}
	}
	return failed
}

// judge tells, once each, that commits fail and that they work again.
func (m *member) judge(session sarama.ConsumerGroupSession, err error) {
	if len(session.Claims()[m.kafka.Topic]) > 0 {
		said := errors.Is(err, sarama.ErrTopicAuthorizationFailed) // by kafkaclient.Look, which ends the session
		m.committer.Judge(m.log, kafkaclient.Explain(err, m.kafka.KafkaAccess), said)
	}
}
