package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

func administrator(t testing.TB, addr string) sarama.ClusterAdmin {
	t.Helper()
	admin, err := sarama.NewClusterAdminFromClient(client(t, addr))
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

func TestTopicsAreMadeAsTheBusSays(t *testing.T) {
	b := startBroker(t)
	js := connect(t, config(b.addr()))
	publish(t, js, "published", "e1")
	subscribe(t, js, bus.Subscription{Name: "s", Topics: []string{"subscribed"}}, nil)
	admin := administrator(t, b.addr())
	for _, topic := range []string{"published", "subscribed"} {
		topics, err := admin.DescribeTopics([]string{topic})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(topics[0].Partitions); got != 3 {
			t.Errorf("topic %s has %d partitions, want 3", topic, got)
		}
		got := topicConfig(t, admin, topic, "retention.ms", "message.timestamp.type", "cleanup.policy")
		want := map[string]string{"retention.ms": "3600000", "message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("configuration of topic %s differs (-want +got):\n%s", topic, diff)
		}
	}
}

func topicConfig(t testing.TB, admin sarama.ClusterAdmin, topic string, names ...string) map[string]string {
	t.Helper()
	results, err := admin.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: names}}, sarama.DescribeConfigsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range results[0].Configs {
		got[e.Name] = e.Value
	}
	return got
}

// What is acknowledged must be on more than half of the replicas, whatever the brokers' default is, or one that dies takes events with it.
// A single replica is never asked for a second one, which brokers before Kafka 3.7 would wait for.
func TestMoreThanHalfOfTheReplicasMustHaveAnEvent(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(4), kfake.BrokerConfigs(map[string]string{"min.insync.replicas": "2"}))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	admin := administrator(t, cluster.ListenAddrs()[0])
	for replicas, want := range map[int16]string{1: "1", 2: "2", 3: "2", 4: "3"} {
		c := config("")
		c.Brokers, c.ReplicationFactor = cluster.ListenAddrs(), replicas
		topic := fmt.Sprint("replicas-", replicas)
		publish(t, connect(t, c), topic, "e1")
		if got := topicConfig(t, admin, topic, "min.insync.replicas")["min.insync.replicas"]; got != want {
			t.Errorf("min.insync.replicas of %d replicas = %q, want %q", replicas, got, want)
		}
	}
}

func TestATopicThatIsThereIsUsedAsItIs(t *testing.T) {
	b := startBroker(t, kfake.SeedTopics(1, "small"))
	logs, seen := observer.New(zap.InfoLevel)
	k := connectLogged(t, config(b.addr()), zap.New(logs))
	in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"small"}}, nil)
	publish(t, k, "small", "e1", "e2")
	in.wants(t, "e1", "e2")
	if got := onlyLog(t, seen, "fewer partitions"); got["topic"] != "small" || fmt.Sprint(got["partitions"], got["wanted"]) != "1 3" {
		t.Errorf("logged %v, want the topic and both numbers", got)
	}
}

// The next event makes a topic again that someone has removed, and a subscription that runs gets it, although it had read as far before.
func TestATopicThatIsRemovedIsMadeAgain(t *testing.T) {
	t.Parallel()
	removedTopic(t, startBroker(t).addr())
}

func removedTopic(t *testing.T, addr string) {
	logs, seen := observer.New(zap.WarnLevel)
	k := connectLogged(t, config(addr), zap.New(logs))
	in := subscribe(t, k, bus.Subscription{Name: "removed", Topics: []string{"removed"}}, nil)
	publish(t, k, "removed", numbers(100)...) // the new topic will not go as far
	in.wants(t, numbers(100)...)
	if err := administrator(t, addr).DeleteTopic("removed"); err != nil {
		t.Fatal(err)
	}
	// A broker may take an event for a topic that is about to go, so one alone would not do.
	for n := range 10 {
		id := fmt.Sprint("after-", n)
		publish(t, k, "removed", id)
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if slices.Contains(in.ids(), id) {
				if n := seen.FilterMessageSnippet(notCommitted).Len(); n > 0 {
					t.Errorf("logged %d times that commits fail, want not, of a topic that is removed", n)
				}
				return
			}
		}
	}
	t.Errorf("received %d events, and none that was published after the topic was removed", len(in.ids()))
}

func TestPartitionKey(t *testing.T) {
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"topic"}}, nil)
	for i := range 60 {
		attributes := []string{}
		if i%2 == 0 {
			attributes = append(attributes, "partitionkey=k")
		}
		if err := tryPublish(k, "topic", newEvent(t, fmt.Sprint(i), nil, attributes...)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all is received", func() bool { return len(in.ids()) == 60 })
	partitions := map[bool]map[uint64]bool{true: {}, false: {}}
	for _, m := range in.got() {
		partitions[m.Event.Extensions()["partitionkey"] != nil][m.Sequence>>48] = true
	}
	if len(partitions[true]) != 1 || len(partitions[false]) != 3 {
		t.Errorf("events with one key are in %d partitions and those without in %d, want 1 and 3", len(partitions[true]), len(partitions[false]))
	}
}

func TestSizes(t *testing.T) {
	b := startBroker(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000000"}))
	k := connect(t, config(b.addr()))
	in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"topic"}}, nil)
	large := newEvent(t, "large", make([]byte, 1_900_000)) // more than a batch
	if err := tryPublish(k, "topic", large); err != nil {
		t.Errorf("Handle of an event that the broker takes = %v, want nil", err)
	}
	in.wants(t, "large")
	err := tryPublish(k, "topic", newEvent(t, "too large", make([]byte, 2_100_000)))
	if !event.IsPermanent(err) || !errors.Is(err, event.ErrTooLarge) || !strings.Contains(err.Error(), "max.message.bytes") {
		t.Errorf("Handle of an event that the broker does not take = %v, want a permanent error that names max.message.bytes", err)
	}
	if err := tryPublish(k, "topic", newEvent(t, "beyond any request", make([]byte, 100<<20))); !errors.Is(err, event.ErrTooLarge) {
		t.Errorf("Handle of 100 MiB = %v, want that it is too large", err)
	}
	publish(t, k, "topic", "after")
	in.wants(t, "large", "after")
}

// A broker refuses a batch for its size, although it takes each of the events in it.
func TestABatchThatIsTooLargeCostsNoEvent(t *testing.T) {
	b := startBroker(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "60000"}))
	c := config(b.addr())
	c.Partitions = 1
	k := connect(t, c)
	publish(t, k, "topic", "first")
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if err := tryPublish(k, "topic", newEvent(t, fmt.Sprint(i), make([]byte, 20_000))); err != nil {
				t.Errorf("Handle = %v, want nil", err)
			}
		})
	}
	wg.Wait()
}

func TestTopicNames(t *testing.T) {
	k := connect(t, config("127.0.0.1:1")) // no broker needs to be asked
	for _, topic := range []string{"", ".", "..", "a b", "a/b", "ü", strings.Repeat("x", 250)} {
		err := k.Topic(bus.Topic{Name: topic}).Handle(context.Background(), newEvent(t, "e", nil))
		if !event.IsPermanent(err) {
			t.Errorf("Handle on %q = %v, want a permanent error", topic, err)
		}
		if err := k.Subscribe(context.Background(), bus.Subscription{Name: "s", Topics: []string{topic}}, nil); err == nil {
			t.Errorf("Subscribe to %q = nil, want an error", topic)
		}
	}
}

func TestReplicationThatIsNotPossibleIsExplained(t *testing.T) {
	b := startBroker(t)
	c := config(b.addr())
	c.ReplicationFactor = 3
	k := connect(t, c)
	err := k.Topic(bus.Topic{Name: "topic"}).Handle(context.Background(), newEvent(t, "e", nil))
	var unavailable *event.Unavailable
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "topic topic: it cannot have 3 replicas") {
		t.Errorf("Handle() = %v, want that the topic cannot have 3 replicas", err)
	}
}
