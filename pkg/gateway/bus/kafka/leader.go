package kafka

import (
	"errors"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// askAgain is how long the brokers' answer who leads the partitions of a topic counts while one has no leader.
const askAgain = 250 * time.Millisecond

// byKey is where all other clients send a key.
var byKey = sarama.NewMurmur2Partitioner("")

// question is who leads the partitions of a topic. Who asks within a moment shares the answer.
type question struct {
	answered chan struct{}
	at       time.Time // of the answer; this and err are read once answered is closed
	err      error
}

// leads tells whether a partition had a leader when the brokers were last asked.
func (p *producer) leads(at place) bool { return !p.client.PartitionNotReadable(at.topic, at.id) }

// knows tells whether the brokers said which partitions a topic has.
func (p *producer) knows(topic string) bool {
	if p.leads(place{topic, 0}) {
		return true
	}
	known, _ := p.client.Topics() // an error is that the client is closed
	return slices.Contains(known, topic)
}

// choose puts a record on a partition that has a leader. It asks the brokers once before it says that there is none.
func (p *producer) choose(m *sarama.ProducerMessage, hash int32, wait func(<-chan struct{}, error) error) error {
	why := error(sarama.ErrLeaderNotAvailable)
	for asked := false; ; asked = true {
		found, err := p.find(m, hash)
		if found || err != nil {
			return err
		}
		if asked {
			return why
		}
		q := p.ask(m.Topic)
		if err := wait(q.answered, errors.New("the brokers did not say who leads the topic's partitions")); err != nil {
			return err
		}
		if q.err != nil {
			why = q.err
		}
	}
}

// find is choose without asking. A record with a key goes where all other clients send the key, or nowhere. One without goes where the hash of what makes
// events the same says, whenever and by whomever it is published, and so to the same receiver, who recognises it; but while that has no
// leader, or one that lately refused what it was given, to the next partition that is better.
func (p *producer) find(m *sarama.ProducerMessage, hash int32) (found bool, err error) {
	if !p.knows(m.Topic) { // sarama would ask at once, for as long as that takes
		return false, nil
	}
	all, err := p.client.Partitions(m.Topic)
	if err != nil || len(all) == 0 {
		return false, err
	}
	n := int32(len(all))
	if m.Key != nil {
		m.Partition, err = byKey.Partition(m, n)
		return p.leads(place{m.Topic, m.Partition}), err
	}
	now := time.Now()
	for _, last := range []bool{false, true} { // at last, one that refused
		for i := range n {
			m.Partition = (hash%n + i) % n
			at := place{m.Topic, m.Partition}
			if !p.leads(at) || !last && p.failures.failing(at, now) {
				continue
			}
			if i > 0 {
				p.ask(m.Topic) // the one before may have a leader again, or another one
			}
			return true, nil
		}
	}
	return false, nil
}

// ask has the brokers say who leads the partitions of a topic, unless they did so a moment ago.
func (p *producer) ask(topic string) *question {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.asked[topic]
	if q != nil {
		select {
		case <-q.answered:
			if time.Since(q.at) >= askAgain {
				q = nil
			}
		default:
		}
	}
	if q == nil {
		q = &question{answered: make(chan struct{})}
		p.asked[topic] = q
		p.sending.Go(func() {
			q.err = p.client.RefreshMetadata(topic)
			q.at = time.Now()
			close(q.answered)
		})
	}
	return q
}

// leaderless is a client for sarama's producer. It makes a partition without a leader one whose leader is a broker that is not connected: that has all its
// records tried again together, until there is a leader, or they fail. Otherwise sarama lets them fail one by one, four a second, with all that is behind them, and asks
// nobody for ten seconds after the third.
type leaderless struct {
	kafkaclient.Leaderless
	nobody *sarama.Broker
}

func newLeaderless(c sarama.Client) *leaderless {
	return &leaderless{kafkaclient.Leaderless{Client: c}, sarama.NewBroker("nobody")}
}

// Leader implements sarama.Client.
func (c *leaderless) Leader(topic string, partition int32) (*sarama.Broker, error) {
	leader, err := c.Client.Leader(topic, partition)
	if errors.Is(err, sarama.ErrLeaderNotAvailable) {
		return c.nobody, nil
	}
	return leader, err
}
