package kafka

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// fixture is a cluster that is reached with access, has topics of three partitions, and is written to by what write says.
func fixture(access plan.KafkaAccess, create func(t testing.TB, topic string), write func(t testing.TB, m ...*sarama.ProducerMessage)) sourcetest.Fixture {
	var topics, calls atomic.Int64
	return sourcetest.Fixture{
		Kind: "kafka",
		Origin: func(t testing.TB) string {
			topic := "sourcetest-" + strconv.FormatInt(topics.Add(1), 10)
			create(t, topic)
			return topic
		},
		New: func(_ testing.TB, p sourcetest.Process) source.Source {
			o := Options{Source: p.Source, Dial: p.Dial, Instance: p.Instance}
			o.Source.Kafka = &plan.Kafka{KafkaAccess: access, Topic: p.Origin, ConsumerGroup: "group-" + p.Origin}
			if p.Wrong {
				o.Source.Kafka.Password = sourcetest.WrongSecret
			}
			return New(o)
		},
		Produce: func(t testing.TB, topic string, data ...[]byte) {
			key := sarama.StringEncoder(fmt.Sprint("key-", calls.Add(1))) // the records of a key have an order
			var all []*sarama.ProducerMessage
			for _, d := range data {
				all = append(all, &sarama.ProducerMessage{Topic: topic, Key: key, Value: sarama.ByteEncoder(d)})
			}
			write(t, all...)
		},
		ProduceEvent: func(t testing.TB, topic string, e *event.Event) {
			m := &sarama.ProducerMessage{Topic: topic}
			event.EachAttribute(e, func(name, value string) {
				m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte("ce_" + name), Value: []byte(value)})
			})
			if contentType := e.DataContentType(); contentType != "" {
				m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte("content-type"), Value: []byte(contentType)})
			}
			if len(e.Data()) > 0 {
				m.Value = sarama.ByteEncoder(e.Data())
			}
			write(t, m)
		},
		AtLeastOnce: true,
		Ordered:     true,
		Positions:   true,
		Refusal:     []string{access.Brokers[0], strconv.Quote(access.Username), "saslPasswordFrom"},
	}
}

func TestConformance(t *testing.T) {
	port, dir := servers.FreePort(t), t.TempDir()
	var c *kfake.Cluster
	var err error
	start := func(t testing.TB) {
		t.Helper()
		c, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SyncWrites(),
			kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "user", "secret"))
		if err != nil {
			t.Fatal(err)
		}
	}
	start(t)
	t.Cleanup(func() { c.Close() })
	access := plan.KafkaAccess{Brokers: c.ListenAddrs(), SASLMechanism: "SCRAM-SHA-512", Username: "user", Password: "secret"}
	create := func(t testing.TB, topic string) {
		admin, err := sarama.NewClusterAdminFromClient(accessed(t, access))
		if err != nil {
			t.Fatal(err)
		}
		if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t testing.TB, m ...*sarama.ProducerMessage) {
		cl := accessed(t, access)
		defer cl.Close()
		p, err := sarama.NewSyncProducerFromClient(cl)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.SendMessages(m); err != nil {
			t.Fatal(err)
		}
	}
	f := fixture(access, create, write)
	f.MaxData = 900 << 10
	f.Stop, f.Start, f.Persistent = func(testing.TB) { c.Close() }, start, true
	sourcetest.Run(t, f)
}
