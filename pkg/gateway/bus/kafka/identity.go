package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// lookInterval is how often a session looks whether its topics are still those that it began with.
const lookInterval = 3 * time.Second

// errOtherTopic ends a session whose topic was removed, and perhaps made again. By its offsets nobody could tell: those of the new one
// begin at zero, and a reader that waits for a higher one would miss all before it.
var errOtherTopic = errors.New("the topic was removed")

// identities returns what tells the subscription's topics from earlier ones of the same names: a part of the ids that brokers give
// them. It is empty where the brokers are too old for that.
func (s *subscription) identities() (map[string]string, error) {
	topics, err := s.admin.DescribeTopics(s.Topics)
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

// identify is called before a session. What is known of a topic that is another one by now counts no more: all that is in it is new.
func (s *subscription) identify() error {
	ids, err := s.identities()
	if err != nil {
		return err
	}
	for _, topic := range s.Topics {
		if was := s.ids[topic]; was == "" || was == ids[topic] {
			continue
		}
		s.start[topic] = map[int32]int64{}
		for _, p := range s.all() {
			if p.topic == topic {
				s.warn("the topic was removed and made again, and is read from its beginning", p)
				p.restart()
			}
		}
	}
	s.ids = ids
	return nil
}

// signature is by whom a commit is, and for which of the topics that had this name.
func (s *subscription) signature(topic string) string {
	if id := s.ids[topic]; id != "" {
		return s.holder + "." + id
	}
	return s.holder
}

// counts tells whether a commit is for the topic that is there now.
func (s *subscription) counts(topic string, c commit) bool {
	_, id, known := strings.Cut(c.signature, ".")
	return !known || s.ids[topic] == "" || id == s.ids[topic]
}

// look ends the session, by end, when one of its topics is not there any more.
func (m *member) look(ctx context.Context, end context.CancelCauseFunc) {
	for ctx.Err() == nil {
		pause(ctx, lookInterval)
		ids, err := m.identities()
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			end(errOtherTopic)
		}
		if err != nil {
			continue // others say that the brokers are away
		}
		for topic, id := range m.ids {
			if ids[topic] != id {
				end(errOtherTopic)
			}
		}
	}
}
