package kafka

import (
	"context"
	"slices"
	"sync"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// member is what a session of the group calls.
type member struct {
	*subscription
	claims    []*partition
	committed map[*partition]int    // the change that was committed last
	finish    func(context.Context) // see kafkaclient.CommitRegularly; nil before Setup has succeeded
	looking   sync.WaitGroup

	ctx  context.Context // done when the session has ended, or is to
	quit context.CancelCauseFunc
}

// Setup is called when the group has been balanced and before the session reads.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	if err := m.take(session); err != nil {
		return err
	}
	m.forget()
	// Also without a partition: whoever has it has done the same.
	m.reports.Partly(m.led())
	m.finish = kafkaclient.CommitRegularly(func() error {
		was := m.unled
		if err := m.led(); m.unled != was {
			m.reports.Partly(err)
		}
		p, err := m.commit(session)
		m.judge(p, err)
		return err
	})
	m.ctx, m.quit = context.WithCancelCause(session.Context())
	look := kafkaclient.Look{Admin: m.admin, Topics: m.Topics, IDs: m.ids, Denied: &m.denied}
	m.looking.Go(func() { m.quit(look.Wait(m.ctx)) })
	return nil
}

// led returns an error while a partition of the topics has no leader. Sarama waits for that, and reads the others meanwhile.
func (m *member) led() error {
	err := m.leaders.Judge(m.log(nil), m.client, m.Topics)
	m.unled = ""
	if err != nil {
		m.unled = err.Error()
	}
	return err
}

// ConsumeClaim reads one partition until the session ends.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	p := m.partition(place{claim.Topic(), claim.Partition()})
	if !slices.Contains(m.claims, p) {
		return nil // its leader is back, and the next session asks it where to begin
	}
	if claim.InitialOffset() == sarama.OffsetOldest {
		m.warn("the topic does not go as far as the subscription was, and is read from its beginning", p)
		p.restart()
	}
	p.read(m.ctx, claim.Messages())
	return nil
}

// Cleanup commits what was done until now, as the last thing before the partitions may go to other members.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	if m.finish == nil {
		return nil
	}
	m.quit(nil)
	m.looking.Wait()
	m.finish(m.over)
	return nil
}
