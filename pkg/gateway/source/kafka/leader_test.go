package kafka

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
)

// unled has the broker name no leader of partition 0 of the topic t, of two, while it is true.
func unled(t *testing.T, c *kfake.Cluster, cl sarama.Client) *atomic.Bool {
	t.Helper()
	admin, err := sarama.NewClusterAdminFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	described, err := admin.DescribeTopics([]string{"t"})
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(c.ListenAddrs()[0])
	number, _ := strconv.Atoi(port)
	var is atomic.Bool
	is.Store(true)
	c.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !is.Load() {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.MetadataResponse)
		broker, topic := kmsg.NewMetadataResponseBroker(), kmsg.NewMetadataResponseTopic()
		broker.Host, broker.Port = host, int32(number)
		topic.Topic, topic.TopicID = kmsg.StringPtr("t"), described[0].Uuid
		for id := range int32(2) {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition = id
			if id == 0 {
				p.ErrorCode, p.Leader = kerr.LeaderNotAvailable.Code, -1
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.ControllerID, resp.Brokers, resp.Topics = broker.NodeID, append(resp.Brokers, broker), append(resp.Topics, topic)
		return resp, nil, true
	})
	return &is
}

// A source that begins while a partition has no leader reads the others, and that one as soon as it has a leader.
func TestOthersAreReadWhileAPartitionHasNoLeader(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"the group has read it": true, "it is read from its oldest record": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, kfake.SeedTopics(2, "t"))
			cl := client(t, c.ListenAddrs()...)
			o := options("t", c.ListenAddrs()...)
			o.Source.Kafka.FromOldest = !known
			if known {
				produce(t, cl, "t", 0, "before")
				first := start(t, o, &runtest.Sink{})
				first.AwaitReady(true)
				first.End()
			}
			produce(t, cl, "t", 0, "unread")
			produce(t, cl, "t", 1, "of another")
			is := unled(t, c, cl)

			logs, seen := observer.New(zap.WarnLevel)
			s := &runtest.Sink{}
			r := startLogged(t, o, s, zap.New(logs).Sugar())
			if err := r.AwaitReady(false); !strings.HasPrefix(err.Error(), "topic t, partition 0: no leader") {
				t.Errorf("ready(%v), want which partition is not read", err)
			}
			s.Await(t, "of another")
			for end := time.Now().Add(runtest.Deadline); committed(t, cl, "group-t", "t", 1) != 1; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("what is done of the other partition is not committed")
				}
			}
			if n := s.Count("unread"); n != 0 || len(r.Ready) != 0 {
				t.Errorf("without a leader %d events of the partition are received, and ready was called %d times more", n, len(r.Ready))
			}
			is.Store(false)
			s.Await(t, "unread")
			r.AwaitReady(true)
			if s.Count("before") != 0 {
				t.Error("read what was there before the group was")
			}
			var lines []string
			for _, l := range seen.All() {
				lines = append(lines, fmt.Sprint(l.Message, l.ContextMap()["topic"], l.ContextMap()["partitions"]))
			}
			if want := []string{"a partition has no leader, and cannot be read until it has onet[0]"}; !slices.Equal(lines, want) {
				t.Errorf("logged %q, want %q", lines, want)
			}
		})
	}
}
