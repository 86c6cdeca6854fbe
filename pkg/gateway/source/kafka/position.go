package kafka

import (
	"fmt"
	"maps"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// positions returns where the partitions that exist begin when they have no committed offset: at their end, if the group is new to
// the topic. A partition that is not in it begins at its oldest record.
//
// The order of the two questions matters. Two members may ask at once, and each may then commit the ends that it saw. Because a
// member sees the ends first and that nobody has committed second, what it saw is from before anybody was ready.
//
// A group that is new to the topic waits until all of its partitions have a leader, who says where they end.
func (r *run) positions() (map[int32]int64, error) {
	start := map[int32]int64{}
	if r.kafka.FromOldest {
		return start, nil
	}
	partitions, err := r.client.Partitions(r.kafka.Topic)
	if err != nil {
		return nil, err
	}
	ends, err := kafkaclient.Offsets(r.client, r.admin, map[string][]int32{r.kafka.Topic: partitions}, sarama.OffsetNewest)
	if err != nil {
		return nil, err
	}
	committed, err := r.committed(partitions)
	if err != nil {
		return nil, err
	}
	if len(committed) > 0 {
		return start, nil
	}
	return ends[r.kafka.Topic], kafkaclient.NoEnd(r.kafka.Topic, partitions, ends[r.kafka.Topic])
}

// take commits a position for each of the partitions that a session was given. So a process that dies before its first event was handled
// begins there again, not at what is then the end. It does so for those that have one too: whether it may is whether it may read.
func (m *member) take(session sarama.ConsumerGroupSession, partitions []int32) error {
	committed, err := m.committed(partitions)
	if err != nil {
		return err
	}
	begin, oldest := map[int32]int64{}, []int32{}
	for _, p := range partitions {
		if offset, ok := committed[p]; ok {
			begin[p] = offset
			delete(m.start, p) // should it lose its offset, its topic was created anew
		} else if offset, ok := m.start[p]; ok {
			begin[p] = offset
		} else {
			oldest = append(oldest, p)
		}
	}
	offsets, err := kafkaclient.Offsets(m.client, m.admin, map[string][]int32{m.kafka.Topic: oldest}, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	maps.Copy(begin, offsets[m.kafka.Topic]) // but for those without a leader, see ConsumeClaim
	m.begin = begin
	for p, offset := range begin {
		m.mark(p, offset)
		// The session asked for offsets before this, and may have one of an earlier topic. Nothing is committed by it: marks only go up.
		session.ResetOffset(m.kafka.Topic, p, offset, "")
		session.MarkOffset(m.kafka.Topic, p, offset, "")
	}
	if err := m.commit(session); err != nil {
		return fmt.Errorf("first offsets: %w", err)
	}
	return nil
}

// committed returns the offsets that the group has committed for this topic, without the partitions that have none.
func (r *run) committed(partitions []int32) (map[int32]int64, error) {
	blocks, err := kafkaclient.Committed(r.admin, r.kafka.ConsumerGroup, map[string][]int32{r.kafka.Topic: partitions})
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for p, block := range blocks[r.kafka.Topic] {
		if r.counts(block.Metadata) {
			offsets[p] = block.Offset
		}
	}
	return offsets, nil
}
