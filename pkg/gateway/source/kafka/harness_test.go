package kafka

import (
	"testing"

	"github.com/IBM/sarama"
	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
)

func options(topic string, brokers ...string) Options {
	return Options{Instance: "test-0", Source: plan.Source{
		Namespace: "ns", EventSource: "es", Event: "ev", Kind: "kafka",
		Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: brokers}, Topic: topic, ConsumerGroup: "group-" + topic},
	}}
}

func start(t *testing.T, o Options, next event.Handler) *runtest.Running {
	t.Helper()
	return startLogged(t, o, next, zap.NewNop().Sugar())
}

func startLogged(t *testing.T, o Options, next event.Handler, log *zap.SugaredLogger) *runtest.Running {
	t.Helper()
	return runtest.Start(t, New(o), next, log)
}

func client(t *testing.T, brokers ...string) sarama.Client {
	t.Helper()
	c := sarama.NewConfig()
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	cl, err := sarama.NewClient(brokers, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

// accessed is a client that may write.
func accessed(t testing.TB, access plan.KafkaAccess) sarama.Client {
	t.Helper()
	d := kafkaclient.NewDialer(nil)
	c, err := kafkaclient.Config(access, "writer", d)
	if err != nil {
		t.Fatal(err)
	}
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.MaxMessageBytes = 8 << 20
	c.Producer.Retry.Max = 20
	c.Metadata.Full = true
	cl, err := sarama.NewClient(access.Brokers, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close(); d.Close() })
	return cl
}

// produce writes records to one partition.
func produce(t *testing.T, cl sarama.Client, topic string, partition int32, values ...string) {
	t.Helper()
	p, err := sarama.NewSyncProducerFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, v := range values {
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder(v)}); err != nil {
			t.Fatalf("produce %s to %s: %v", v, topic, err)
		}
	}
}

// committed returns the group's offset, or -1.
func committed(t *testing.T, cl sarama.Client, group, topic string, partition int32) int64 {
	t.Helper()
	admin, err := sarama.NewClusterAdminFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	response, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetBlock(topic, partition).Offset
}
