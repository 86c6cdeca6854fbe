package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"knative.dev/pkg/logging"
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
	for range lastCommits {
		err := m.commit(session)
		if err == nil || errors.Is(err, sarama.ErrUnknownMemberId) || errors.Is(err, sarama.ErrIllegalGeneration) {
			return nil
		}
		pause(m.over, commitInterval)
	}
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
		if err := m.commit(session); err != nil {
			logging.FromContext(m.b.ctx).Debugw("commit", "bus", m.b.o.Name, "subscription", m.Name, "error", err)
		}
	}
}

// commit commits what has changed, as the member of the group that session is: a group that has members takes it from nobody else.
func (m *member) commit(session sarama.ConsumerGroupSession) error {
	request := sarama.NewOffsetCommitRequest(m.config, m.group)
	request.ConsumerID, request.ConsumerGroupGeneration = session.MemberID(), session.GenerationID()
	changes := map[*partition]int{}
	for _, p := range m.claims {
		offset, metadata, change := p.snapshot()
		if m.committed[p] == change {
			continue
		}
		changes[p] = change
		request.AddBlockWithLeaderEpoch(p.topic, p.id, offset, -1, 0, metadata)
	}
	if len(changes) == 0 {
		return nil
	}
	coordinator, err := m.client.Coordinator(m.group)
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	response, err := coordinator.CommitOffset(request)
	if err != nil {
		_ = coordinator.Close()
		return fmt.Errorf("commit offsets: %w", err)
	}
	var failed error
	for p, change := range changes {
		switch err, ok := response.Errors[p.topic][p.id]; {
		case !ok:
			failed = fmt.Errorf("commit offset of topic %s, partition %d: %w", p.topic, p.id, sarama.ErrIncompleteResponse)
		case err != sarama.ErrNoError:
			failed = fmt.Errorf("commit offset of topic %s, partition %d: %w", p.topic, p.id, err)
		default:
			m.committed[p] = change
		}
	}
	if errors.Is(failed, sarama.ErrNotCoordinatorForConsumer) || errors.Is(failed, sarama.ErrConsumerCoordinatorNotAvailable) {
		_ = m.client.RefreshCoordinator(m.group) // the next attempt says what is wrong
	}
	return failed
}

func (s *subscription) warn(text string, p *partition, more ...any) {
	logging.FromContext(s.b.ctx).With("bus", s.b.o.Name, "subscription", s.Name, "topic", p.topic, "partition", p.id).Warnw(text, more...)
}
