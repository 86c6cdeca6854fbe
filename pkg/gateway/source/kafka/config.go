package kafka

import (
	"math"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// channelSize is how many fetched records wait for a partition, besides those in flight.
const channelSize = 16

func (s *Source) config(dialer *kafkaclient.Dialer) (*sarama.Config, error) {
	k := s.o.Source.Kafka
	c, err := kafkaclient.Config(k.KafkaAccess, s.o.Instance, dialer)
	if err != nil {
		return nil, err
	}
	c.ChannelBufferSize = channelSize
	c.Metadata.RefreshFrequency = 5 * time.Second // twice that until new partitions are read

	c.Metadata.Retry.Backoff = 100 * time.Millisecond // each question is asked often before a broker counts as lost
	c.Consumer.Group.Heartbeat.Interval = time.Second // how soon a lost broker is noticed

	// Eager, so that Setup sees every partition before it is read, and the assignor that all other clients have too.
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	c.Consumer.Group.Rebalance.Timeout = 2*drainTimeout + 10*time.Second
	c.Consumer.Group.Rebalance.Retry.Backoff = time.Second
	c.Net.ReadTimeout = c.Consumer.Group.Rebalance.Timeout + 10*time.Second // the answer to a join takes as long as a rebalance

	// Setup commits a position for every partition, so Initial is for offsets that are gone: go on with what is left, skip nothing.
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false // see kafkaclient.Committer
	c.Consumer.Return.Errors = true
	c.Consumer.IsolationLevel = sarama.ReadCommitted // a record of an aborted transaction is no event
	// A larger record arrives too, in a fetch of its own. Fetch.Max would skip it.
	if n := min(k.MaxMessageBytes, math.MaxInt32/2); n > int64(c.Consumer.Fetch.Default) {
		c.Consumer.Fetch.Default = int32(n)
		c.Consumer.Fetch.MaxBytes = max(c.Consumer.Fetch.MaxBytes, int32(n))
	}
	return c, c.Validate()
}
