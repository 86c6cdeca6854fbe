package kafka

import (
	"fmt"
	"slices"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// commit is what a group has committed for a partition.
type commit struct {
	progress  progress
	signature string
}

// positions finds out where the partitions that exist begin when they have no committed offset: at their end, if the group is new to
// their topic. A partition that is not in start begins at its oldest record.
//
// The order of the two questions matters. Two members may ask at once, and each may then commit the ends that it saw. Because a
// member sees the ends first and that nobody has committed second, what it saw is from before anybody was ready.
func (s *subscription) positions() error {
	partitions := map[string][]int32{}
	for _, topic := range s.Topics {
		if s.start[topic] != nil {
			continue
		}
		ids, err := s.client.Partitions(topic)
		if err != nil {
			return fmt.Errorf("partitions of topic %s: %w", topic, err)
		}
		partitions[topic] = ids
	}
	if len(partitions) == 0 {
		return nil
	}
	ends, err := kafkaclient.Offsets(s.admin, partitions, sarama.OffsetNewest)
	if err != nil {
		return err
	}
	commits, err := s.committed(partitions)
	if err != nil {
		return err
	}
	for at := range commits {
		ends[at.topic] = map[int32]int64{} // the group knows the topic
	}
	for topic := range partitions {
		s.start[topic] = ends[topic]
	}
	return nil
}

// take finds out where each of the session's partitions is to be read, and commits a position for those that have none. So a process
// that dies before its first message was done begins there again, not at what is then the end.
func (m *member) take(session sarama.ConsumerGroupSession) error {
	claims := session.Claims()
	for _, p := range m.all() {
		p.lose()
	}
	if len(claims) == 0 {
		return nil
	}
	commits, err := m.subscription.committed(claims)
	if err != nil {
		return err
	}
	oldest, err := kafkaclient.Offsets(m.admin, claims, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	m.committed = map[*partition]int{}
	for topic, ids := range claims {
		for _, id := range ids {
			m.claim(session, m.partition(place{topic, id}), commits, oldest[topic][id])
		}
	}
	_, err = m.commit(session)
	return err
}

func (m *member) claim(session sarama.ConsumerGroupSession, p *partition, commits map[place]commit, oldest int64) {
	c, ok := commits[p.place]
	if ok && !m.counts(p.topic, c) {
		c, ok = commit{}, false // of a topic that had this name before
	}
	if ok {
		delete(m.start[p.topic], p.id) // should it lose its offset, its topic was created anew
	} else if start, ok := m.start[p.topic][p.id]; ok {
		c.progress.next = start
	} else {
		c.progress.next = oldest
	}
	begin, missed := p.resume(c, oldest)
	if missed > 0 {
		m.warn("events were deleted before the subscription got them: the topic keeps them too short a time, or the subscription is too slow",
			p, "events", missed)
	}
	// The session asks for offsets before Setup. Nothing is committed by this.
	session.MarkOffset(p.topic, p.id, begin, "")
	session.ResetOffset(p.topic, p.id, begin, "")
	m.claims = append(m.claims, p)
}

// forget removes what the group has committed for topics that the subscription had before. Should it have one again, that counts from then on.
func (m *member) forget() {
	response, err := m.admin.ListConsumerGroupOffsets(m.group, nil)
	if err != nil {
		m.log(nil).Debugw("fetch offsets of the group", "error", err)
		return
	}
	for topic, partitions := range response.Blocks {
		if slices.Contains(m.Topics, topic) {
			continue
		}
		for id := range partitions {
			if err := m.admin.DeleteConsumerGroupOffset(m.group, topic, id); err != nil { // the next session tries again
				m.log(nil).Debugw("forget offset", "topic", topic, "partition", id, "error", err)
			}
		}
	}
}

// committed returns what the group has committed, without the partitions for which it has nothing.
func (s *subscription) committed(partitions map[string][]int32) (map[place]commit, error) {
	blocks, err := kafkaclient.Committed(s.admin, s.group, partitions)
	if err != nil {
		return nil, err
	}
	commits := map[place]commit{}
	for topic, ids := range blocks {
		for id, block := range ids {
			// What cannot be read is as if it were not there: then all that is not before the offset comes again.
			progress, signature, _ := parseProgress(block.Offset, block.Metadata)
			commits[place{topic, id}] = commit{progress, signature}
		}
	}
	return commits, nil
}
