package kafka

import (
	"context"
	"strings"
	"testing"

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
