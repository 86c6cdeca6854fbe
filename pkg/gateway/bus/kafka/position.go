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
//
// A group that is new to a topic waits until all of its partitions have a leader, who says where they end.
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
	ends, err := kafkaclient.Offsets(s.client, s.admin, partitions, sarama.OffsetNewest)
	if err != nil {
		return err
	}
	commits, err := s.committed(partitions)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for at := range commits {
		known[at.topic] = true
	}
	for topic, ids := range partitions {
		switch {
		case known[topic]:
			s.start[topic] = map[int32]int64{}
		case len(ends[topic]) == len(ids):
			s.start[topic] = ends[topic]
		default:
			err = kafkaclient.NoEnd(topic, ids, ends[topic])
		}
	}
	return err
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
	oldest, err := kafkaclient.Offsets(m.client, m.admin, claims, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	m.committed = map[*partition]int{}
	for topic, ids := range claims {
		for _, id := range ids {
			first, led := oldest[topic][id]
			m.claim(session, m.partition(place{topic, id}), commits, first, led)
		}
	}
	_, err = m.commit(session)
	return err
}

// claim is take for one partition. Without a leader nobody says which record is its oldest: that others were deleted is noticed when it is read.
func (m *member) claim(session sarama.ConsumerGroupSession, p *partition, commits map[place]commit, oldest int64, led bool) {
	c, ok := commits[p.place]
	if ok && !m.counts(p.topic, c) {
		c, ok = commit{}, false // of a topic that had this name before
	}
	if ok {
		delete(m.start[p.topic], p.id) // should it lose its offset, its topic was created anew
	} else if start, ok := m.start[p.topic][p.id]; ok {
		c.progress.next = start
	} else if led {
		c.progress.next = oldest
	} else {
		return // see ConsumeClaim
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
