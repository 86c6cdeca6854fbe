package kafka

import (
	"context"
	"errors"
	"strings"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// signaturePrefix begins the metadata of our commits, which say for which of the topics that had this name they are.
const signaturePrefix = "topic "

// identify is called before a session. What is known of a topic that is another one by now counts no more: all that is in it is new.
func (r *run) identify() error {
	id, err := r.identity()
	if err != nil {
		return err
	}
	if r.topicID != "" && r.topicID != id {
		r.log.Warnw("the topic was removed and made again, and is read from its beginning")
		r.start = map[int32]int64{}
	}
	r.topicID = id
	return nil
}

func (r *run) identity() (string, error) {
	ids, err := kafkaclient.TopicIDs(r.admin, []string{r.kafka.Topic})
	return ids[r.kafka.Topic], err
}

// look ends the session, by end, when the topic is not the one with that id any more, or may not be read any more: the next one says so.
func (r *run) look(ctx context.Context, id string, end context.CancelCauseFunc) {
	for ctx.Err() == nil {
		kafkaclient.Pause(ctx, kafkaclient.LookInterval)
		if r.denied.Swap(false) {
			end(sarama.ErrTopicAuthorizationFailed)
		}
		// Other errors others say.
		if now, err := r.identity(); errors.Is(err, sarama.ErrUnknownTopicOrPartition) || err == nil && now != id {
			end(nil)
		}
	}
}

// signature is the metadata of a commit.
func (r *run) signature() string {
	if r.topicID == "" {
		return ""
	}
	return signaturePrefix + r.topicID
}

// counts tells whether a commit is for the topic that is there now.
func (r *run) counts(metadata string) bool {
	id, ours := strings.CutPrefix(metadata, signaturePrefix)
	return !ours || r.topicID == "" || id == r.topicID
}
