package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// A broker whose disk takes no more answers so, and what is published then is not lost: its producer knows.
func TestABrokerWhoseDiskIsFull(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	b.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, kerr.KafkaStorageError.Code
				topic.Partitions = append(topic.Partitions, partition)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := k.Topic(bus.Topic{Name: "topic"}).Handle(ctx, newEvent(t, "e", nil))
	var away *event.Unavailable
	if !errors.As(err, &away) || !away.Full {
		t.Errorf("Handle() = %v, want *event.Unavailable that is full", err)
	}
}
