package kafka

import (
	"slices"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
)

func TestPlan(t *testing.T) {
	member := func(held map[string][]int32, topics ...string) sarama.ConsumerGroupMemberMetadata {
		data, err := assignment{held: func() map[string][]int32 { return held }}.SubscriptionUserData(topics)
		if err != nil {
			t.Fatal(err)
		}
		return sarama.ConsumerGroupMemberMetadata{Topics: topics, UserData: data}
	}
	type members = map[string]sarama.ConsumerGroupMemberMetadata
	type topics = map[string][]int32
	tests := []struct {
		name    string
		members members
		topics  topics
		want    sarama.BalanceStrategyPlan
	}{
		{
			"one member has all", members{"m1": member(nil, "a", "b")}, topics{"a": {0, 1}, "b": {0}},
			sarama.BalanceStrategyPlan{"m1": {"a": {0, 1}, "b": {0}}},
		},
		{
			"topics of one partition are shared too", members{"m1": member(nil, "a", "b"), "m2": member(nil, "a", "b")}, topics{"a": {0}, "b": {0}},
			sarama.BalanceStrategyPlan{"m1": {"a": {0}}, "m2": {"b": {0}}},
		},
		{
			"who holds something keeps it", members{"m1": member(nil, "a"), "m2": member(topics{"a": {0, 3}}, "a")}, topics{"a": {0, 1, 2, 3}},
			sarama.BalanceStrategyPlan{"m1": {"a": {1, 2}}, "m2": {"a": {0, 3}}},
		},
		{
			"who holds everything leaves nothing", members{"m1": member(topics{"a": {0, 1}}, "a"), "m2": member(nil, "a")}, topics{"a": {0, 1}},
			sarama.BalanceStrategyPlan{"m1": {"a": {0, 1}}},
		},
		{
			"only topics that a member wants", members{"m1": member(topics{"b": {0}}, "a"), "m2": member(nil, "a", "b")}, topics{"a": {0, 1}, "b": {0, 1}},
			sarama.BalanceStrategyPlan{"m1": {"a": {0}}, "m2": {"a": {1}, "b": {0, 1}}},
		},
		{
			"a partition that is gone is not kept", members{"m1": member(topics{"a": {7}}, "a")}, topics{"a": {0}},
			sarama.BalanceStrategyPlan{"m1": {"a": {0}}},
		},
		{
			"data of another version", members{"m1": {Topics: []string{"a"}, UserData: []byte("?")}}, topics{"a": {0}},
			sarama.BalanceStrategyPlan{"m1": {"a": {0}}},
		},
	}
	for _, tt := range tests {
		got, err := assignment{}.Plan(tt.members, tt.topics)
		if err != nil {
			t.Errorf("%s: Plan() = %v", tt.name, err)
		}
		for _, topics := range got {
			for _, partitions := range topics {
				slices.Sort(partitions)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: plan differs (-want +got):\n%s", tt.name, diff)
		}
	}
}
