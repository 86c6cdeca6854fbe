package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// KafkaServer is a process of Apache Kafka with one broker on loopback. It creates topics on demand, with one partition.
// It keeps its port and its data when it is killed and started again. Its methods fail the test that started it.
type KafkaServer struct {
	t          testing.TB
	host       string
	script     string
	dir        string
	broker     int
	controller int
	process    *Process
}

// Kafka starts a broker that lives until the test ends, with lines added to its configuration. That takes about three seconds: subtests
// share their parent's.
func Kafka(t testing.TB, lines ...string) *KafkaServer {
	t.Helper()
	k := newKafka(t)
	k.Configure(strings.Join(lines, "\n"))
	k.Start()
	return k
}

// KafkaAt is Kafka with another address of this machine than 127.0.0.1.
func KafkaAt(t testing.TB, host string) *KafkaServer {
	t.Helper()
	k := newKafka(t)
	k.host = host
	k.Configure(fmt.Sprintf("listeners=PLAINTEXT://%[1]s,CONTROLLER://127.0.0.1:%[2]d\nadvertised.listeners=PLAINTEXT://%[1]s\n", k.Addr(), k.controller))
	k.Start()
	return k
}

// newKafka returns a broker that has not been started.
func newKafka(t testing.TB) *KafkaServer {
	t.Helper()
	k := &KafkaServer{
		t:          t,
		host:       "127.0.0.1",
		script:     filepath.Join(root(), "third_party", "kafka", "kafka.sh"),
		dir:        t.TempDir(),
		broker:     FreePort(t),
		controller: FreePort(t),
	}
	// Apart from the start, because it downloads when the cache is empty.
	if out, err := exec.Command(k.script, "fetch").CombinedOutput(); err != nil {
		t.Fatalf("fetch kafka: %v\n%s", err, out)
	}
	return k
}

// Configure adds lines to the configuration of a broker that does not run, instead of those before.
func (k *KafkaServer) Configure(lines string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, "more.properties"), []byte(lines), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// Addr is the broker's address, host:port.
func (k *KafkaServer) Addr() string { return net.JoinHostPort(k.host, strconv.Itoa(k.broker)) }

// Start starts the broker again after Kill and returns once it serves.
func (k *KafkaServer) Start() {
	k.t.Helper()
	k.start(k.answers)
}

func (k *KafkaServer) start(ready func() error) {
	k.t.Helper()
	cmd := exec.Command(k.script, "run", k.dir, strconv.Itoa(k.broker), strconv.Itoa(k.controller))
	k.process = StartProcess(k.t, cmd, ready)
}

// Kill ends the broker as a power failure would, with SIGKILL.
func (k *KafkaServer) Kill() { k.process.Kill() }

// Process is the process that runs now.
func (k *KafkaServer) Process() *Process { return k.process }

// CreateTopic creates a topic and returns once it can be written to.
func (k *KafkaServer) CreateTopic(name string, partitions int32) {
	k.t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("create topic %s: %v", name, err)
	}
	defer admin.Close()
	if err := admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false); err != nil {
		k.t.Fatalf("create topic %s: %v", name, err)
	}
	k.eventually("create topic "+name, func() error {
		topics, err := admin.DescribeTopics([]string{name})
		if err != nil {
			return err
		}
		if t := topics[0]; t.Err != sarama.ErrNoError || len(t.Partitions) != int(partitions) {
			return fmt.Errorf("%d partitions: %w", len(t.Partitions), t.Err)
		}
		return nil
	})
}

// DeleteTopic removes a topic and returns once it is gone.
func (k *KafkaServer) DeleteTopic(name string) {
	k.t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("delete topic %s: %v", name, err)
	}
	defer admin.Close()
	if err := admin.DeleteTopic(name); err != nil {
		k.t.Fatalf("delete topic %s: %v", name, err)
	}
	k.eventually("delete topic "+name, func() error {
		topics, err := admin.ListTopics()
		if _, there := topics[name]; err == nil && there {
			err = errors.New("it is still there")
		}
		return err
	})
}

// AddPartitions gives a topic more partitions, up to total.
func (k *KafkaServer) AddPartitions(topic string, total int32) {
	k.t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("add partitions to %s: %v", topic, err)
	}
	defer admin.Close()
	if err := admin.CreatePartitions(topic, total, nil, false); err != nil {
		k.t.Fatalf("add partitions to %s: %v", topic, err)
	}
}

// Produce writes records in order and returns once the broker has them. Equal keys go to one partition.
func (k *KafkaServer) Produce(records ...*sarama.ProducerMessage) {
	k.t.Helper()
	producer, err := sarama.NewSyncProducer([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("produce: %v", err)
	}
	defer producer.Close()
	if err := producer.SendMessages(records); err != nil {
		k.t.Fatalf("produce: %v", err)
	}
}

// KafkaRecord returns a record for Produce; an empty key is none. Headers are names and values by turns.
func KafkaRecord(topic, key, value string, headers ...string) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}
	if key != "" {
		m.Key = sarama.StringEncoder(key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(headers[i]), Value: []byte(headers[i+1])})
	}
	return m
}

// Committed returns the offsets that a consumer group has committed for a topic, by partition.
func (k *KafkaServer) Committed(group, topic string) map[int32]int64 {
	k.t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("offsets of %s: %v", group, err)
	}
	defer admin.Close()
	response, err := admin.ListConsumerGroupOffsets(group, nil)
	if err != nil {
		k.t.Fatalf("offsets of %s: %v", group, err)
	}
	offsets := map[int32]int64{}
	for partition, block := range response.Blocks[topic] {
		if block.Offset >= 0 {
			offsets[partition] = block.Offset
		}
	}
	return offsets
}

// Absence waits until consumer groups have no members. What it returns waits until they have had none for longer than the broker keeps
// offsets by itself, offsets.retention.minutes: until then it has lost one that a group without members commits now.
func (k *KafkaServer) Absence(topic string, groups ...string) (outlast func()) {
	k.t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, kafkaConfig())
	if err != nil {
		k.t.Fatalf("absence of %s: %v", groups, err)
	}
	defer admin.Close()
	k.eventually("no members", func() error {
		all, err := admin.DescribeConsumerGroups(groups)
		if err != nil {
			return err
		}
		for _, g := range all {
			if g.Err != sarama.ErrNoError || g.State != "Empty" {
				return fmt.Errorf("group %s is %q: %w", g.GroupId, g.State, g.Err)
			}
		}
		return nil
	})
	control := "control-" + topic
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 0, LeaderEpoch: -1}}}
	if _, err := admin.AlterConsumerGroupOffsets(control, offsets, nil); err != nil {
		k.t.Fatalf("commit of %s: %v", control, err)
	}
	if len(k.Committed(control, topic)) != 1 {
		k.t.Fatalf("group %s has committed nothing", control)
	}
	return func() {
		k.t.Helper()
		for deadline := time.Now().Add(5 * time.Minute); len(k.Committed(control, topic)) > 0; time.Sleep(time.Second) {
			if time.Now().After(deadline) {
				k.t.Fatalf("the broker has not forgotten the offset of group %s: lower its offsets.retention.minutes", control)
			}
		}
	}
}

func (k *KafkaServer) answers() error {
	c := kafkaConfig()
	c.Metadata.Retry.Max = 0
	client, err := sarama.NewClient([]string{k.Addr()}, c)
	if err != nil {
		return err
	}
	defer client.Close()
	if len(client.Brokers()) == 0 {
		return errors.New("no broker has registered")
	}
	return nil
}

func (k *KafkaServer) eventually(what string, try func() error) {
	k.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("%s: %v", what, err)
		}
	}
}

func kafkaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = "test"
	c.Metadata.Retry.Max = 5
	c.Metadata.Retry.Backoff = 100 * time.Millisecond
	c.Producer.MaxMessageBytes = 8 << 20
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 10
	return c
}
