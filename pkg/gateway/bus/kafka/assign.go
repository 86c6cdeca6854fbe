package kafka

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/IBM/sarama"
)

// assignment shares out the partitions of a group. A member that holds messages of a partition keeps it: only so they come to nobody
// else. All others go to whoever has the fewest.
type assignment struct {
	// held returns the partitions that this process holds messages of.
	held func() map[string][]int32
}

var _ sarama.SubscriptionUserDataBalanceStrategy = assignment{}

// Name implements sarama.BalanceStrategy.
func (assignment) Name() string { return "openfunction" }

// AssignmentData implements sarama.BalanceStrategy.
func (assignment) AssignmentData(string, map[string][]int32, int32) ([]byte, error) { return nil, nil }

// SubscriptionUserData is what this member tells whoever makes the plan.
func (a assignment) SubscriptionUserData([]string) ([]byte, error) { return json.Marshal(a.held()) }

// Plan implements sarama.BalanceStrategy.
func (assignment) Plan(members map[string]sarama.ConsumerGroupMemberMetadata, topics map[string][]int32) (sarama.BalanceStrategyPlan, error) {
	plan := sarama.BalanceStrategyPlan{}
	count := map[string]int{}
	give := func(member, topic string, partition int32) {
		plan.Add(member, topic, partition)
		count[member]++
	}
	ids := slices.Sorted(maps.Keys(members))
	holders := holders(ids, members)
	free := map[string][]int32{}
	for topic, partitions := range topics {
		for _, partition := range partitions {
			if member, ok := holders[place{topic, partition}]; ok {
				give(member, topic, partition)
			} else {
				free[topic] = append(free[topic], partition)
			}
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(free)) {
		var takers []string
		for _, id := range ids {
			if slices.Contains(members[id].Topics, topic) {
				takers = append(takers, id)
			}
		}
		for _, partition := range slices.Sorted(slices.Values(free[topic])) {
			if len(takers) > 0 {
				give(slices.MinFunc(takers, func(a, b string) int { return cmp.Compare(count[a], count[b]) }), topic, partition)
			}
		}
	}
	return plan, nil
}

// holders tells who holds what. If two hold one partition, one of them had lost it already.
func holders(ids []string, members map[string]sarama.ConsumerGroupMemberMetadata) map[place]string {
	all := map[place]string{}
	for _, id := range ids {
		var held map[string][]int32
		if json.Unmarshal(members[id].UserData, &held) != nil {
			continue // of another version, which holds nothing that we know of
		}
		for _, topic := range members[id].Topics {
			for _, partition := range held[topic] {
				all[place{topic, partition}] = id
			}
		}
	}
	return all
}
