package kafkaclient

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/IBM/sarama"
)

// describing is an administrator whose brokers describe topics by its answers, one after the other, and by the last from then on.
type describing struct {
	sarama.ClusterAdmin
	answers []func() ([]*sarama.TopicMetadata, error)
}

func (d *describing) DescribeTopics([]string) ([]*sarama.TopicMetadata, error) {
	answer := d.answers[0]
	if len(d.answers) > 1 {
		d.answers = d.answers[1:]
	}
	return answer()
}

func TestASessionEndsWithItsTopics(t *testing.T) {
	topic := func(id byte, err sarama.KError) func() ([]*sarama.TopicMetadata, error) {
		return func() ([]*sarama.TopicMetadata, error) {
			return []*sarama.TopicMetadata{{Name: "t", Uuid: sarama.Uuid{id}, Err: err}}, nil
		}
	}
	same := topic(1, sarama.ErrNoError)
	away := func() ([]*sarama.TopicMetadata, error) { return nil, errors.New("EOF") }
	type answers []func() ([]*sarama.TopicMetadata, error)
	for name, tt := range map[string]struct {
		answers answers
		denied  bool
		want    error
	}{
		"it is the same":           {answers{same}, false, nil},
		"the brokers are away":     {answers{away}, false, nil},
		"it is another one":        {answers{same, away, topic(2, sarama.ErrNoError)}, false, errOtherTopic},
		"it is gone":               {answers{same, topic(0, sarama.ErrUnknownTopicOrPartition)}, false, errOtherTopic},
		"it may not be read":       {answers{same}, true, sarama.ErrTopicAuthorizationFailed},
		"it has no id any more":    {answers{topic(0, sarama.ErrNoError)}, false, errOtherTopic},
		"it may not be described":  {answers{topic(0, sarama.ErrTopicAuthorizationFailed)}, false, nil},
		"it has no leader for now": {answers{topic(1, sarama.ErrLeaderNotAvailable), same}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*LookInterval+LookInterval/2)
				defer cancel()
				var denied atomic.Bool
				denied.Store(tt.denied)
				l := Look{Admin: &describing{answers: tt.answers}, Topics: []string{"t"}, Denied: &denied}
				l.IDs, _ = TopicIDs(&describing{answers: answers{same}}, l.Topics)
				if got := l.Wait(ctx); got != tt.want {
					t.Errorf("Wait() = %v, want %v", got, tt.want)
				}
				if over := ctx.Err() != nil; over != (tt.want == nil) {
					t.Errorf("Wait() has waited for the end: %t, want %t", over, tt.want == nil)
				}
				if denied.Load() {
					t.Error("what was said is said again in the next session")
				}
			})
		})
	}
}
