package kafka

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// shortTime is for how long metadata is shortened until the brokers are asked again for more room.
const shortTime = 5 * time.Second

// committing is how the commits of a subscription go. Its sessions use it one after the other.
type committing struct {
	limit     int       // of the metadata
	shortened time.Time // when that was lowered
	refused   int       // the shortest metadata that was too large, which was told; 0 if none was
}

// commit commits what has changed, as the member of the group that session is: a group that has members takes it from nobody else. It
// returns the partition that the error is about, or nil if it is about all.
func (m *member) commit(session sarama.ConsumerGroupSession) (*partition, error) {
	if time.Since(m.shortened) > shortTime {
		m.limit = maxMetadata
	}
	for {
		limit := m.limit
		p, err := m.tryCommit(session)
		if err == nil || m.limit == limit {
			return p, err
		}
	}
}

func (m *member) tryCommit(session sarama.ConsumerGroupSession) (*partition, error) {
	request := m.committer.Request(session)
	type sent struct{ change, metadata int }
	all := map[*partition]sent{}
	for _, p := range m.claims {
		offset, metadata, change := p.snapshot(m.limit)
		if m.committed[p] == change {
			continue
		}
		all[p] = sent{change, len(metadata)}
		request.AddBlockWithLeaderEpoch(p.topic, p.id, offset, -1, 0, metadata)
	}
	if len(all) == 0 {
		return nil, nil
	}
	response, err := m.committer.Commit(request)
	if err != nil {
		return nil, err
	}
	var about *partition
	var failed error
	for p, sent := range all {
		err := kafkaclient.Answer(response, p.topic, p.id)
		switch err {
		case nil:
			m.committed[p] = sent.change
			m.taken(p, sent.metadata)
			continue
		case sarama.ErrOffsetMetadataTooLarge:
			m.shorten(p, sent.metadata)
		}
		about, failed = p, fmt.Errorf("commit offset of topic %s, partition %d: %w", p.topic, p.id, err)
	}
	return about, failed
}

// shorten is called when metadata was too large: the next attempt has less of it, at last none. An offset that is committed without
// repeats more than what is under way, but less than one that is not committed.
func (m *member) shorten(p *partition, size int) {
	m.limit, m.shortened = min(m.limit, size*3/4), time.Now()
	if m.refused == 0 {
		m.refused = size
		m.warn("the brokers take less metadata of an offset than the subscription has, so a restart repeats more than what is under way: "+
			"set their offset.metadata.max.bytes to 4096", p, "bytes", size)
	}
	m.refused = min(m.refused, size)
}

// taken is called when the brokers have taken metadata.
func (m *member) taken(p *partition, size int) {
	if m.refused > 0 && size >= m.refused {
		m.refused = 0
		m.log(p).Infow("the brokers take all metadata of offsets again")
	}
}

// judge tells, once each, that commits fail and that they work again.
func (m *member) judge(p *partition, err error) {
	if len(m.claims) > 0 {
		m.committer.Judge(m.log(p), m.b.explain(err), m.b.isAway())
	}
}
