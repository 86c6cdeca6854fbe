package kafkaclient

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// LookInterval is how often a session of a group looks whether its topics are still those that it began with. By its offsets it could not
// tell: those of a topic that is removed and made again begin at zero, and a reader that waits for a higher one would miss all before it.
const LookInterval = 3 * time.Second

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
