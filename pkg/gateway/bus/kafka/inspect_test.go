package kafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	fewPartitions = "fewer partitions than the bus asks for"
	fewReplicas   = "fewer replicas than the bus asks for"
	compacted     = "the topic is compacted"
	tooFewInSync  = "fewer replicas than its min.insync.replicas"
	keepsLess     = "the topic keeps events for less time than the bus's retention"
	keepsFew      = "the topic deletes the oldest events of a partition that is too large"
)

func TestWhatIsWrongWithATopicIsToldOnce(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	topics := map[string]struct {
		partitions int32
		settings   map[string]string
		want       map[string]map[string]any // fields by message, besides those of all
	}{
		"fine":      {3, nil, nil},
		"more":      {5, map[string]string{"cleanup.policy": "delete", "min.insync.replicas": "1"}, nil},
		"few":       {1, nil, map[string]map[string]any{fewPartitions: {"partitions": int64(1), "wanted": int32(3)}}},
		"compacted": {3, map[string]string{"cleanup.policy": "compact"}, map[string]map[string]any{compacted: {"cleanup.policy": "compact"}}},
		"both":      {3, map[string]string{"cleanup.policy": "compact,delete"}, map[string]map[string]any{compacted: {"cleanup.policy": "compact,delete"}}},
		"brief": {3, map[string]string{"retention.ms": "60000"},
			map[string]map[string]any{keepsLess: {"retention": "1h0m0s", "retention.ms": "60000"}}},
		"small": {3, map[string]string{"retention.bytes": "1000"},
			map[string]map[string]any{keepsFew: {"retention": "1h0m0s", "retention.bytes": "1000"}}},
		"long": {3, map[string]string{"retention.ms": "3600000", "retention.bytes": "-1"}, nil},
		"ever": {3, map[string]string{"retention.ms": "-1"}, nil},
		"starved": {3, map[string]string{"min.insync.replicas": "2"},
			map[string]map[string]any{tooFewInSync: {"replicas": int64(1), "min.insync.replicas": int64(2)}}},
	}
	for name, topic := range topics {
		if err := b.cluster.CreateTopic(name, topic.partitions, topic.settings); err != nil {
			t.Fatal(err)
		}
	}
	logs, seen := observer.New(zap.WarnLevel)
	k := connectLogged(t, config(b.addr()), zap.New(logs))
	publishAll := func() {
		for name := range topics {
			publish(t, k, name, "e")
		}
	}
	publishAll()
	b.stop(t)
	eventually(t, "the bus is away", func() bool { return k.Ready() != nil })
	b.start(t)
	publishAll()
	if err := b.cluster.CreateTopic("later", 1, nil); err != nil {
		t.Fatal(err)
	}
	publish(t, k, "later", "e")
	eventually(t, "the topic that comes later is told of", func() bool { return seen.FilterField(zap.String("topic", "later")).Len() > 0 })
	for name, topic := range topics {
		eventually(t, "all is told of topic "+name, func() bool { return seen.FilterField(zap.String("topic", name)).Len() >= len(topic.want) })
		for _, line := range seen.FilterField(zap.String("topic", name)).All() {
			got := line.ContextMap()
			want := map[string]any{"bus": "EventBus default/default", "topic": name}
			found := false
			for message, fields := range topic.want {
				if found = strings.Contains(line.Message, message); found {
					for key, value := range fields {
						want[key] = value
					}
					delete(topic.want, message)
					break
				}
			}
			if diff := cmp.Diff(want, got); !found || diff != "" {
				t.Errorf("topic %s: logged %q, which is wanted: %t; fields differ (-want +got):\n%s", name, line.Message, found, diff)
			}
		}
	}
}

// What the topic had when it was made is what it keeps, whatever retention says later.
func TestATopicThatKeepsLessThanTheBusSays(t *testing.T) {
	t.Parallel() // it waits
	b := startBroker(t)
	c := config(b.addr())
	before := connect(t, c)
	for _, topic := range []string{"one", "other"} {
		publish(t, before, topic, "e")
	}
	if got := before.Losing(); got != "" {
		t.Errorf("of topics that the bus made, Losing() = %q", got)
	}
	c.Retention = 2 * time.Hour
	k := connect(t, c)
	for _, topic := range []string{"one", "other"} {
		publish(t, k, topic, "e")
	}
	for _, want := range []string{
		"topic one loses events: ", "lower retention", "kafka-configs.sh --alter --topic one --add-config retention.ms=7200000", "(retention.ms=3600000)", "; and 1 more",
	} {
		eventually(t, "it is told "+want, func() bool { return strings.Contains(k.Losing(), want) })
	}
	if err := k.Ready(); err != nil {
		t.Errorf("Ready() = %v: events do flow", err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client(t, b.addr()))
	if err != nil {
		t.Fatal(err)
	}
	ms := "7200000"
	for _, topic := range []string{"one", "other"} {
		if err := admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &ms}, false); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the cure is noticed", func() bool { return k.Losing() == "" })
}

// What loses events is told for as long as it is there and somebody uses it.
func TestATopicThatIsGoneLosesNothing(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	for _, topic := range []string{"deleted", "left"} {
		if err := b.cluster.CreateTopic(topic, 3, map[string]string{"cleanup.policy": "compact"}); err != nil {
			t.Fatal(err)
		}
		publish(t, k, topic, "e")
	}
	losing := func() string {
		k.mu.Lock()
		k.inspected = time.Time{} // nobody waits for inspectAge
		k.mu.Unlock()
		return k.Losing()
	}
	eventually(t, "both are told", func() bool {
		got := losing()
		return strings.HasPrefix(got, "topic deleted ") && strings.HasSuffix(got, "; and 1 more")
	})
	admin, err := sarama.NewClusterAdminFromClient(client(t, b.addr()))
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.DeleteTopic("deleted"); err != nil {
		t.Fatal(err)
	}
	link, err := k.up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.client.RefreshMetadata("deleted"); err == nil { // as it does by itself, now and then
		t.Fatal("the topic is not deleted")
	}
	eventually(t, "the one that is deleted is not told any more", func() bool {
		got := losing()
		return strings.HasPrefix(got, "topic left ") && !strings.Contains(got, "more")
	})
	b.stop(t)
	eventually(t, "the bus is away", func() bool { return k.Ready() != nil })
	b.start(t)
	eventually(t, "the bus is back", func() bool { return k.Ready() == nil })
	eventually(t, "the one that nobody uses is not told any more", func() bool { return losing() == "" })
	publish(t, k, "left", "e")
	eventually(t, "it is told when somebody uses it", func() bool { return strings.HasPrefix(losing(), "topic left ") })
}

func TestATopicWithFewerReplicasIsTold(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	if err := b.cluster.CreateTopic("topic", 3, nil); err != nil {
		t.Fatal(err)
	}
	c := config(b.addr())
	c.ReplicationFactor = 3
	logs, seen := observer.New(zap.WarnLevel)
	publish(t, connectLogged(t, c, zap.New(logs)), "topic", "e")
	if got := onlyLog(t, seen, fewReplicas); got["replicas"] != int64(1) || got["wanted"] != int16(3) {
		t.Errorf("logged %v, want both numbers", got)
	}
}

// rights are those that docs/spec/eventbus.md names as needed.
func rights() (acls []kfake.ACL) {
	allow := func(resource kmsg.ACLResourceType, operations ...kmsg.ACLOperation) {
		for _, operation := range operations {
			acls = append(acls, kfake.ACL{Resource: resource, Name: "openfunction.", Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: operation, Allow: true})
		}
	}
	allow(kmsg.ACLResourceTypeTopic, kmsg.ACLOperationCreate, kmsg.ACLOperationRead, kmsg.ACLOperationWrite)
	allow(kmsg.ACLResourceTypeGroup, kmsg.ACLOperationRead, kmsg.ACLOperationDelete)
	return acls
}

// One right that is not needed, to see the settings of topics, is missed silently.
func TestRights(t *testing.T) {
	t.Parallel()
	b := startBroker(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "user", "secret", rights()...))
	if err := b.cluster.CreateTopic("openfunction.there", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	c := config(b.addr())
	c.SASLMechanism, c.Username, c.Password = "PLAIN", "user", "secret"
	logs, seen := observer.New(zap.WarnLevel)
	k := connectLogged(t, c, zap.New(logs))
	s := bus.Subscription{Name: "s", Topics: []string{"openfunction.there", "openfunction.made"}}
	in := subscribe(t, k, s, nil)
	publish(t, k, "openfunction.there", "e1")
	in.wants(t, "e1")
	publish(t, k, "openfunction.made", "e2")
	in.wants(t, "e1", "e2")
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	if err := k.Unsubscribe(context.Background(), s); err != nil {
		t.Errorf("Unsubscribe() = %v, want nil", err)
	}
	if got := onlyLog(t, seen, fewPartitions); got["topic"] != "openfunction.there" {
		t.Errorf("logged %v, want of the topic that was there", got)
	}
	for _, line := range seen.All() {
		if !strings.Contains(line.Message, fewPartitions) {
			t.Errorf("logged %q %v, want nothing about what the bus may not see", line.Message, line.ContextMap())
		}
	}
}
