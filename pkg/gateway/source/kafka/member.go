package kafka

import "github.com/IBM/sarama"

// member is what a session of the group calls.
type member struct{ *run }

// Setup is called when the group has been balanced and before the session reads.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	if partitions := session.Claims()[m.kafka.Topic]; len(partitions) > 0 {
		if err := m.take(session, partitions); err != nil {
			return err
		}
	}
	// Also without a partition: whoever has it has done the same.
	m.receiving()
	return nil
}

// Cleanup has nothing to do: the session commits what was marked.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim reads one partition until the session ends.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	p := newPartition(m.run, func(offset int64) {
		session.MarkOffset(claim.Topic(), claim.Partition(), offset, m.signature())
	})
	if claim.InitialOffset() == sarama.OffsetOldest {
		// What was committed does not exist any more. If it is higher than what is read now, marks would not count: they only go up.
		session.ResetOffset(claim.Topic(), claim.Partition(), 0, m.signature())
		m.log.Warnw("what the group has committed is not in the topic, which is read from its oldest record: it keeps records too short a time, or the "+
			"source is too slow", "partition", claim.Partition())
	}
	p.read(session.Context(), claim.Messages())
	return nil
}
