package kafka

import (
	"strings"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// signaturePrefix begins the metadata of our commits, which say for which of the topics that had this name they are.
const signaturePrefix = "topic "

// identify is called before a session. What is known of a topic that is another one by now counts no more: all that is in it is new.
func (r *run) identify() error {
	ids, err := kafkaclient.TopicIDs(r.admin, []string{r.kafka.Topic})
	if err != nil {
		return err
	}
	id := ids[r.kafka.Topic]
	if r.topicID != "" && r.topicID != id {
		r.log.Warnw("the topic was removed and made again, and is read from its beginning")
		r.start = map[int32]int64{}
	}
	r.topicID = id
	return nil
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
