package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	// windowSize is that of a producer's window.
	windowSize = 1024
	// ackTimeout bounds the wait for an acknowledgement, which may take as long as the brokers need to choose another leader.
	ackTimeout = 15 * time.Second
	// batchSize bounds what is sent at once to a partition. It is less than brokers take by default, and what they then do not take has
	// one event only to blame if that is sent by itself.
	batchSize = 1000 * 1000
	// singleSize is sarama's limit for a request, less its margin.
	singleSize = 99 << 20
)

func configureProducer(c *sarama.Config) {
	c.ChannelBufferSize = windowSize / 2 // a partition that takes nothing has no more of them, and so does not stop the others
	c.Net.MaxOpenRequests = 1            // what an idempotent producer of sarama wants: while one request is under way, the next one fills
	p := &c.Producer
	p.Idempotent, p.RequiredAcks = true, sarama.WaitForAll
	p.Timeout = ackTimeout - 5*time.Second
	p.Return.Successes, p.Return.Errors = true, true
	p.Partitioner = sarama.NewManualPartitioner // see choose
	p.MaxMessageBytes = batchSize
	p.Retry.Max, p.Retry.Backoff = 10, 250*time.Millisecond // another leader is chosen meanwhile
	p.Transaction.Retry.Max = 3                             // of the question for a producer's id
}

// producer publishes on a link. Its methods may be called from many goroutines at once, send also after close.
type producer struct {
	client sarama.Client
	own    bool // the client is only this producer's
	async  sarama.AsyncProducer
	window *window
	lost   <-chan struct{}

	failures failures

	mu      sync.Mutex
	asked   map[string]*question // by topic
	closed  bool
	sending sync.WaitGroup // begun under mu
	results sync.WaitGroup
}

func newProducer(client sarama.Client, lost <-chan struct{}) (*producer, error) {
	async, err := sarama.NewAsyncProducerFromClient(newLeaderless(client))
	if err != nil {
		return nil, err
	}
	p := &producer{client: client, async: async, window: newWindow(windowSize), lost: lost, asked: map[string]*question{}}
	p.results.Go(func() {
		for m := range async.Successes() {
			at := place{m.Topic, m.Partition}
			p.failures.succeeded(at)
			p.settle(m, at, nil)
		}
	})
	p.results.Go(func() {
		for e := range async.Errors() {
			at, err := place{e.Msg.Topic, e.Msg.Partition}, e.Err
			if errors.Is(err, sarama.ErrNotConnected) && !p.leads(at) {
				err = sarama.ErrLeaderNotAvailable
			}
			p.settle(e.Msg, at, p.failures.failed(at, err, time.Now()))
		}
	})
	return p, nil
}

func (p *producer) settle(m *sarama.ProducerMessage, at place, err error) {
	p.window.leave(at)
	m.Metadata.(chan error) <- err
}

// send returns nil once the brokers have the record.
func (p *producer) send(ctx context.Context, m *sarama.ProducerMessage) error {
	result := make(chan error, 1)
	m.Metadata = result
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	if err := p.begin(ctx, m, timer.C); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("the brokers did not acknowledge within %s", ackTimeout)
	case <-p.lost:
	}
	select {
	case err := <-result: // it came just before
		return err
	default:
		return errLost
	}
}

// begin puts the record on a partition, waits for room there, and gives it to sarama.
func (p *producer) begin(ctx context.Context, m *sarama.ProducerMessage, late <-chan time.Time) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errLost
	}
	p.sending.Add(1)
	p.mu.Unlock()
	defer p.sending.Done()
	wait := func(turn <-chan struct{}, why error) error {
		select {
		case <-turn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-p.lost:
			return errLost
		case <-late:
			return why
		}
	}
	at, err := p.place(m, wait)
	if err != nil {
		return err
	}
	select {
	case p.async.Input() <- m:
		return nil
	case <-ctx.Done():
		p.window.leave(at)
		return ctx.Err()
	case <-p.lost:
		p.window.leave(at)
		return errLost
	}
}

// place puts the record on a partition, and returns that when there is room.
func (p *producer) place(m *sarama.ProducerMessage, wait func(<-chan struct{}, error) error) (place, error) {
	for hash := m.Partition; ; {
		if err := p.choose(m, hash, wait); err != nil {
			return place{}, err
		}
		at := place{m.Topic, m.Partition}
		turn := p.window.enter(at)
		if turn == nil {
			return at, nil
		}
		if err := wait(turn, errors.New("too many events wait for the brokers' acknowledgement")); err != nil {
			p.window.abandon(at, turn)
			return place{}, err
		}
		if p.leads(at) {
			return at, nil
		}
		p.window.leave(at)
		if m.Key != nil { // those before it have waited for a leader long enough
			return place{}, sarama.ErrLeaderNotAvailable
		}
	}
}

// close waits until everything that was sent has its answer, and ends the producer.
func (p *producer) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.sending.Wait()
	p.async.AsyncClose()
	p.results.Wait()
	if p.own {
		_ = p.client.Close()
	}
}

// tooLarge tells whether err is that a batch or the only event in it is larger than a limit.
func tooLarge(err error) bool {
	var local sarama.ConfigurationError
	return errors.As(err, &local) || errors.Is(err, sarama.ErrMessageSizeTooLarge) || errors.Is(err, sarama.ErrMessageSetSizeTooLarge)
}
