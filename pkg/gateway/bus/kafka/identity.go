package kafka

import (
	"strings"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// identify is called before a session. What is known of a topic that is another one by now counts no more: all that is in it is new.
func (s *subscription) identify() error {
	ids, err := kafkaclient.TopicIDs(s.admin, s.Topics)
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
