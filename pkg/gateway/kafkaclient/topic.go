package kafkaclient

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// LookInterval is how often a session of a group looks whether its topics are still those that it began with. By its offsets it could not
// tell: those of a topic that is removed and made again begin at zero, and a reader that waits for a higher one would miss all before it.
const LookInterval = 3 * time.Second

// errOtherTopic ends a session whose topic was removed, and perhaps made again.
var errOtherTopic = errors.New("the topic was removed")

// TopicIDs returns what tells topics from earlier ones of the same names: a part of the ids that brokers give them. A topic is not in it
// where the brokers are too old for that.
func TopicIDs(admin sarama.ClusterAdmin, names []string) (map[string]string, error) {
	topics, err := admin.DescribeTopics(names)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	ids := map[string]string{}
	for _, t := range topics {
		if t.Err != sarama.ErrNoError {
			return nil, fmt.Errorf("describe topic %s: %w", t.Name, t.Err)
		}
		if t.Uuid != (sarama.Uuid{}) {
			ids[t.Name] = base64.RawURLEncoding.EncodeToString(t.Uuid[:6])
		}
	}
	return ids, nil
}

// Look is what a session of a group is to look at while it lasts.
type Look struct {
	Admin  sarama.ClusterAdmin
	Topics []string
	// IDs are the topics' at the session's begin.
	IDs map[string]string
	// Denied is set when the brokers have said that a topic may not be read any more.
	Denied *atomic.Bool
}

// Wait returns why the session has to end, since a topic is not there any more, is another one, or may not be read any more: the next session says
// so. It returns nil when ctx is done.
func (l Look) Wait(ctx context.Context) error {
	for {
		Pause(ctx, LookInterval)
		if l.Denied.Swap(false) {
			return sarama.ErrTopicAuthorizationFailed
		}
		if ctx.Err() != nil {
			return nil
		}
		ids, err := TopicIDs(l.Admin, l.Topics)
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return errOtherTopic
		}
		if err != nil {
			continue // others say that the brokers are away
		}
		for topic, id := range l.IDs {
			if ids[topic] != id {
				return errOtherTopic
			}
		}
	}
}
