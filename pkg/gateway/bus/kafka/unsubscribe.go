package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// unsubscribePause is between two attempts to remove a group that has members.
const unsubscribePause = 250 * time.Millisecond

// Unsubscribe implements bus.Bus. A group with members is not removed: it waits for those that the brokers still believe in.
func (b *Bus) Unsubscribe(ctx context.Context, s bus.Subscription) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if !b.begin() {
		return fmt.Errorf("unsubscribe %s: %w", s.Name, b.unavailable(errClosed))
	}
	defer b.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	l, err := b.up(ctx)
	if err != nil {
		return fmt.Errorf("unsubscribe %s: %w", s.Name, err)
	}
	for {
		err := l.deleteGroup(ctx, groupPrefix+s.Name)
		if err == nil || errors.Is(err, sarama.ErrGroupIDNotFound) {
			return nil
		}
		if !errors.Is(err, sarama.ErrNonEmptyGroup) {
			return fmt.Errorf("unsubscribe %s: %w", s.Name, b.refusal(ctx, err))
		}
		kafkaclient.Pause(ctx, unsubscribePause)
		if ctx.Err() != nil {
			return fmt.Errorf("unsubscribe %s: consumer group %s: %w", s.Name, groupPrefix+s.Name, b.unavailable(err))
		}
	}
}

// deleteGroup removes a consumer group. It returns when ctx is done, and leaves the brokers to it.
func (l *link) deleteGroup(ctx context.Context, group string) error {
	result := make(chan error, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errLost
	}
	l.work.Go(func() { result <- l.tryDeleteGroup(group) })
	l.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-l.lost:
		return errLost
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *link) tryDeleteGroup(group string) error {
	if err := l.client.RefreshCoordinator(group); err != nil {
		return err
	}
	coordinator, err := l.client.Coordinator(group)
	if err != nil {
		return err
	}
	response, err := coordinator.DeleteGroups(&sarama.DeleteGroupsRequest{Version: 2, Groups: []string{group}})
	if err != nil {
		_ = coordinator.Close()
		return err
	}
	if err, ok := response.GroupErrorCodes[group]; !ok {
		return sarama.ErrIncompleteResponse
	} else if err != sarama.ErrNoError {
		return err
	}
	return nil
}
