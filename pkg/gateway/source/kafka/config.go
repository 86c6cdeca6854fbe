package kafka

import (
	"fmt"
	"math"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// channelSize is how many fetched records wait for a partition, besides those in flight.
const channelSize = 64

func (s *Source) config(dialer *dialer) (*sarama.Config, error) {
	k := s.o.Source.Kafka
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0 // what every broker from 2.8 to 4 speaks
	c.ClientID = s.o.Instance
	if c.ClientID == "" {
		c.ClientID = "openfunction-events"
	}
	c.ChannelBufferSize = channelSize
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, dialer
	c.Metadata.Full = false
	c.Metadata.AllowAutoTopicCreation = false     // one who reads must not create
	c.Metadata.RefreshFrequency = 5 * time.Second // twice that until new partitions are read

	// Eager, so that Setup sees every partition before it is read, and the assignor that all other clients have too.
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	c.Consumer.Group.Rebalance.Timeout = 2*drainTimeout + 10*time.Second
	c.Consumer.Group.Rebalance.Retry.Backoff = time.Second
	c.Net.ReadTimeout = c.Consumer.Group.Rebalance.Timeout + 10*time.Second // the answer to a join takes as long as a rebalance

	// Setup commits a position for every partition, so Initial is for offsets that are gone: go on with what is left, skip nothing.
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond // what a process that is killed has done since comes again
	c.Consumer.Return.Errors = true
	c.Consumer.IsolationLevel = sarama.ReadCommitted // a record of an aborted transaction is no event
	// A larger record arrives too, in a fetch of its own. Fetch.Max would skip it.
	if n := min(k.MaxMessageBytes, math.MaxInt32/2); n > int64(c.Consumer.Fetch.Default) {
		c.Consumer.Fetch.Default = int32(n)
		c.Consumer.Fetch.MaxBytes = max(c.Consumer.Fetch.MaxBytes, int32(n))
	}
	if err := authenticate(c, k.SASLMechanism, k.Username, k.Password); err != nil {
		return nil, err
	}
	return c, c.Validate()
}

func authenticate(c *sarama.Config, mechanism, username, password string) error {
	if mechanism == "" {
		return nil
	}
	hash := scram.SHA256
	switch mechanism {
	case sarama.SASLTypePlaintext, sarama.SASLTypeSCRAMSHA256:
	case sarama.SASLTypeSCRAMSHA512:
		hash = scram.SHA512
	default:
		return fmt.Errorf("SASL mechanism %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", mechanism)
	}
	c.Net.SASL.Enable = true
	c.Net.SASL.Mechanism = sarama.SASLMechanism(mechanism)
	c.Net.SASL.User, c.Net.SASL.Password = username, password
	c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: hash} }
	return nil
}

// scramClient is one SCRAM conversation, in the shape that sarama wants.
type scramClient struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

// Begin starts the conversation.
func (c *scramClient) Begin(username, password, authzID string) error {
	client, err := c.hash.NewClient(username, password, authzID)
	if err != nil {
		return err
	}
	c.ClientConversation = client.NewConversation()
	return nil
}
