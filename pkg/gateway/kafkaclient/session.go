package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	// commitInterval is how often what is done is committed. What a process that is killed has done since comes again.
	commitInterval = 200 * time.Millisecond
	// lastCommits is how often the commit at the end of a session is tried.
	lastCommits = 3
)

// CommitRegularly calls commit again and again while a session lasts, for what is done by then. End, in the session's Cleanup, commits the
// rest, as the last thing before the partitions may go to other members; it does not wait for another attempt once ctx is done.
func CommitRegularly(commit func() error) (end func(ctx context.Context)) {
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(commitInterval)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				_ = commit()
			}
		}
	})
	return func(ctx context.Context) {
		close(stop)
		running.Wait()
		for range lastCommits {
			if err := commit(); err == nil || IsMoot(err) {
				return
			}
			Pause(ctx, commitInterval)
		}
	}
}

// Committed returns what a group has committed, by topic and partition, without the partitions for which it has nothing.
func Committed(admin sarama.ClusterAdmin, group string, partitions map[string][]int32) (map[string]map[int32]*sarama.OffsetFetchResponseBlock, error) {
	response, err := admin.ListConsumerGroupOffsets(group, partitions)
	if errors.Is(err, sarama.ErrGroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch offsets of the group: %w", err)
	}
	committed := map[string]map[int32]*sarama.OffsetFetchResponseBlock{}
	for topic, ids := range partitions {
		committed[topic] = map[int32]*sarama.OffsetFetchResponseBlock{}
		for _, id := range ids {
			block := response.GetBlock(topic, id)
			if block == nil {
				return nil, fmt.Errorf("fetch offset of topic %s, partition %d: %w", topic, id, sarama.ErrIncompleteResponse)
			}
			if block.Err != sarama.ErrNoError {
				return nil, fmt.Errorf("fetch offset of topic %s, partition %d: %w", topic, id, block.Err)
			}
			if block.Offset >= 0 {
				committed[topic][id] = block
			}
		}
	}
	return committed, nil
}

// Offsets asks the leaders of partitions for their newest or oldest offsets, as one who reads committed records only sees them. It has none of
// those that have no leader.
func Offsets(client sarama.Client, admin sarama.ClusterAdmin, partitions map[string][]int32, which int64) (map[string]map[int32]int64, error) {
	offsets := map[string]map[int32]int64{}
	for topic, ids := range partitions {
		offsets[topic] = map[int32]int64{}
		for _, id := range Led(client, topic, ids) { // the client would ask who leads the others, which takes long
			offsets[topic][id] = which
		}
	}
	results, err := admin.ListOffsets(offsets, &sarama.ListOffsetsOptions{IsolationLevel: sarama.ReadCommitted})
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	for topic, ids := range offsets {
		for id := range ids {
			result := results[topic][id]
			if result == nil {
				return nil, fmt.Errorf("list offsets of topic %s, partition %d: %w", topic, id, sarama.ErrIncompleteResponse)
			}
			if result.Err != nil && result.Err != sarama.ErrNoError {
				return nil, fmt.Errorf("list offsets of topic %s, partition %d: %w", topic, id, result.Err)
			}
			ids[id] = result.Offset
		}
	}
	return offsets, nil
}

// Pause returns after d, or when ctx is done.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
