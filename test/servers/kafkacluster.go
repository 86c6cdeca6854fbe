package servers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// KafkaClusterServers are three brokers of one cluster, which may be killed. Topics have three replicas; how many must
// have a record is for whoever makes the topic to say, for Kafka's default is one. Each broker keeps its ports and its data.
type KafkaClusterServers struct {
	// Authority issued the brokers' certificates.
	Authority *Authority

	t       testing.TB
	brokers []*SecuredKafkaServer
}

// kafkaCluster makes a node one of three.
const kafkaCluster = `
node.id=%d
controller.quorum.voters=%s
default.replication.factor=3
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
`

// KafkaCluster starts three brokers that live until the test ends.
func KafkaCluster(t testing.TB) *KafkaClusterServers {
	t.Helper()
	c := &KafkaClusterServers{t: t, Authority: NewAuthority(t)}
	var voters, configs []string
	for id := 1; id <= 3; id++ {
		k, config := newSecuredKafka(t, c.Authority)
		c.brokers, configs = append(c.brokers, k), append(configs, config)
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", id, k.controller))
	}
	for i, k := range c.brokers {
		k.Configure(configs[i] + fmt.Sprintf(kafkaCluster, i+1, strings.Join(voters, ",")))
		k.start(func() error { return nil }) // one alone is no quorum
	}
	c.Await()
	return c
}

// SASLSSL are the addresses at which the brokers want a user, through TLS.
func (c *KafkaClusterServers) SASLSSL() []string {
	var all []string
	for _, k := range c.brokers {
		all = append(all, k.SASLSSL)
	}
	return all
}

// SetPassword makes or changes a user of SCRAM on all brokers, with both hashes.
func (c *KafkaClusterServers) SetPassword(user, password string) {
	c.brokers[0].SetPassword(user, password)
}

// Addrs are the brokers' addresses, host:port, at which they let in everybody.
func (c *KafkaClusterServers) Addrs() []string {
	var all []string
	for _, k := range c.brokers {
		all = append(all, k.Addr())
	}
	return all
}

// Kill ends broker i, from 0, with SIGKILL.
func (c *KafkaClusterServers) Kill(i int) { c.brokers[i].Kill() }

// Start starts broker i again after Kill and does not wait until it serves: Await does.
func (c *KafkaClusterServers) Start(i int) {
	c.t.Helper()
	c.brokers[i].start(func() error { return nil })
}

// Await returns once all brokers serve and every partition has its three replicas in sync.
func (c *KafkaClusterServers) Await() {
	c.t.Helper()
	for deadline := time.Now().Add(2 * startTimeout); ; time.Sleep(100 * time.Millisecond) {
		err := c.complete()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			var outputs []string
			for _, k := range c.brokers {
				outputs = append(outputs, k.process.Output())
			}
			c.t.Fatalf("kafka cluster: %v\n%s", err, strings.Join(outputs, "\n---\n"))
		}
	}
}

func (c *KafkaClusterServers) complete() error {
	for _, k := range c.brokers {
		if err := k.answers(); err != nil {
			return fmt.Errorf("%s: %w", k.Addr(), err)
		}
	}
	admin, err := sarama.NewClusterAdmin(c.Addrs(), kafkaConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	brokers, _, err := admin.DescribeCluster()
	if err != nil {
		return err
	}
	if len(brokers) < len(c.brokers) {
		return fmt.Errorf("%d brokers have registered", len(brokers))
	}
	return inSync(admin, len(c.brokers))
}

func inSync(admin sarama.ClusterAdmin, replicas int) error {
	topics, err := admin.ListTopics()
	if err != nil {
		return err
	}
	var names []string
	for name := range topics {
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	all, err := admin.DescribeTopics(names)
	if err != nil {
		return err
	}
	for _, t := range all {
		for _, p := range t.Partitions {
			if len(p.Isr) < min(replicas, len(p.Replicas)) || p.Leader < 0 {
				return errors.New("partitions of topic " + t.Name + " are behind")
			}
		}
	}
	return nil
}
