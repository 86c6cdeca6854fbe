package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

const (
	// commitInterval is how often what is done is committed. What a process that is killed has done since comes again.
	commitInterval = 200 * time.Millisecond
	// lastCommits is how often the commit at the end of a session is tried.
	lastCommits = 3
)

// member is what a session of the group calls.
type member struct {
	*subscription
	claims    []*partition
	committed map[*partition]int // the change that was committed last
	stop      chan struct{}
	commits   sync.WaitGroup

	ctx  context.Context // done when the session has ended, or is to
	quit context.CancelCauseFunc
}

// Setup is called when the group has been balanced and before the session reads.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	if err := m.take(session); err != nil {
		return err
	}
	m.forget()
	m.stop = make(chan struct{})
	m.commits.Go(func() { m.commitRegularly(session) })
	m.ctx, m.quit = context.WithCancelCause(session.Context())
	m.commits.Go(func() { m.look(m.ctx, m.quit) })
	// Also without a partition: whoever has it has done the same.
	m.report(nil)
	return nil
}

// ConsumeClaim reads one partition until the session ends.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	p := m.partition(place{claim.Topic(), claim.Partition()})
	if claim.InitialOffset() == sarama.OffsetOldest {
		m.warn("the topic does not go as far as the subscription was, and is read from its beginning", p)
		p.restart()
	}
	p.read(m.ctx, claim.Messages())
	return nil
}

// Cleanup commits what was done until now, as the last thing before the partitions may go to other members.
func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	if m.stop == nil {
		return nil
	}
	close(m.stop)
	m.quit(nil)
	m.commits.Wait()
	var p *partition
	var err error
	for range lastCommits {
		if p, err = m.commit(session); err == nil || kafkaclient.IsMoot(err) {
			break
		}
		pause(m.over, commitInterval)
	}
	m.judge(p, err)
	return nil
}

func (m *member) commitRegularly(session sarama.ConsumerGroupSession) {
	ticker := time.NewTicker(commitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-ticker.C:
		}
		p, err := m.commit(session)
		m.judge(p, err)
	}
}
