package kafka

import (
	"context"
	"errors"
	"strings"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// errOtherTopic ends a session whose topic was removed, and perhaps made again.
var errOtherTopic = errors.New("the topic was removed")

func (s *subscription) identities() (map[string]string, error) {
	return kafkaclient.TopicIDs(s.admin, s.Topics)
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

// look ends the session, by end, when one of its topics is not there any more, or may not be read any more: the next one says so.
func (m *member) look(ctx context.Context, end context.CancelCauseFunc) {
	for ctx.Err() == nil {
		kafkaclient.Pause(ctx, kafkaclient.LookInterval)
		if m.denied.Swap(false) {
			end(sarama.ErrTopicAuthorizationFailed)
		}
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
