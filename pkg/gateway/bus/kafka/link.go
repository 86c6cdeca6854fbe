package kafka

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

const (
	// Retries of the connection wait from retryMin to retryMax.
	retryMin = 200 * time.Millisecond
	retryMax = 5 * time.Second
	// heartbeat is how often the brokers are asked whether they are there.
	heartbeat = time.Second
	// answerTimeout bounds one exchange with a broker. It is longer than ackTimeout, which a broker may use up by itself.
	answerTimeout = ackTimeout + 5*time.Second
)

// link is one uninterrupted time of being connected, as far as publishing and topics are concerned. Subscriptions have connections of
// their own: a broker answers the requests of one in their order, and some of theirs take long.
type link struct {
	b      *Bus
	dialer *kafkaclient.Dialer
	config *sarama.Config
	probe  *sarama.Broker // whom to ask whether it is there; used by run's goroutine only
	seed   string         // the broker that answered first
	client sarama.Client
	shared *producer
	lost   chan struct{} // closed when the link ends

	mu     sync.Mutex
	single *producer // nil until an event needs it
	admin  sarama.ClusterAdmin
	topics map[string]*made
	closed bool
	work   sync.WaitGroup // on topics; begun under mu
}

// run owns the connection.
func (b *Bus) run() {
	defer close(b.stopped)
	wait := retryMin
	for b.life.Err() == nil {
		l, err := b.open()
		if err == nil {
			wait = retryMin
			b.become(l, nil)
			err = l.watch(b.life)
			b.become(nil, err)
			l.close(err == nil)
			continue
		}
		b.become(nil, err)
		kafkaclient.Pause(b.life, wait/2+rand.N(wait/2))
		wait = min(2*wait, retryMax)
	}
	b.become(nil, errClosed)
}

// become makes the link known, or why there is none, and logs a change.
func (b *Bus) become(l *link, err error) {
	b.mu.Lock()
	wasAway, closed := b.err, b.closed
	if err != nil {
		err = b.explain(err)
	}
	b.current, b.err = l, err
	if l != nil {
		b.inspected = time.Now() // what uses topics comes back first
	}
	close(b.changed)
	b.changed = make(chan struct{})
	b.mu.Unlock()
	b.first.Do(func() { close(b.attempted) })
	log := logging.FromContext(b.ctx).With("bus", b.o.Name)
	switch {
	case closed:
	case err == nil && wasAway != nil:
		log.Infow("the bus is back")
	case err != nil && wasAway == nil:
		log.Warnw("the bus is away", "error", err)
	}
}

// open connects. What it opened is closed when it returns an error.
func (b *Bus) open() (*link, error) {
	dialer := kafkaclient.NewDialer(b.o.Dial)
	b.mu.Lock()
	b.dialer = dialer
	b.mu.Unlock()
	config, err := b.config(dialer)
	if err != nil {
		return nil, err
	}
	l := &link{b: b, dialer: dialer, config: config, lost: make(chan struct{}), topics: map[string]*made{}}
	if err := l.open(); err != nil {
		l.close(false)
		return nil, err
	}
	return l, nil
}

func (l *link) open() error {
	if err := l.alive(); err != nil {
		return err
	}
	l.seed = l.probe.Addr()
	var err error
	if l.client, err = l.newClient(l.config); err != nil {
		return err
	}
	l.shared, err = newProducer(l.client, l.lost)
	return err
}

// newClient returns a client that begins with the broker that answers: sarama asks no other one for a producer's id.
func (l *link) newClient(config *sarama.Config) (sarama.Client, error) {
	return sarama.NewClient([]string{l.seed}, config)
}

func (b *Bus) config(dialer *kafkaclient.Dialer) (*sarama.Config, error) {
	c, err := kafkaclient.Config(b.o.Config.KafkaAccess, b.o.Instance, dialer)
	if err != nil {
		return nil, err
	}
	c.Net.ReadTimeout = answerTimeout
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 1, 100*time.Millisecond
	c.Admin.Timeout = 10 * time.Second
	configureProducer(c)
	return c, c.Validate()
}

// watch returns nil when ctx is done, and an error when no broker answers any more.
func (l *link) watch(ctx context.Context) error {
	t := time.NewTicker(heartbeat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := l.alive(); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// alive returns nil if one of the brokers answers.
func (l *link) alive() error {
	if l.probe != nil && ask(l.probe) == nil {
		return nil
	}
	var first error
	for _, address := range l.b.o.Config.Brokers {
		l.hangUpProbe()
		l.probe = sarama.NewBroker(address)
		err := l.probe.Open(l.config)
		if err == nil {
			err = ask(l.probe)
		}
		if err == nil {
			return nil
		}
		first = cmp.Or(first, fmt.Errorf("broker %s: %w", address, err))
	}
	return first
}

func ask(broker *sarama.Broker) error {
	if _, err := broker.Connected(); err != nil {
		return err
	}
	_, err := broker.ApiVersions(&sarama.ApiVersionsRequest{})
	return err
}

func (l *link) hangUpProbe() {
	if l.probe != nil {
		_ = l.probe.Close() // an error says that it was closed before
		l.probe = nil
	}
}

// close ends the link. If flush, it waits for publications under way, until the dialer is closed.
func (l *link) close(flush bool) {
	if !flush {
		close(l.lost)
		l.dialer.Close()
	}
	l.mu.Lock()
	l.closed = true
	producers := []*producer{l.shared, l.single}
	l.mu.Unlock()
	for _, p := range producers {
		if p != nil {
			p.close()
		}
	}
	if flush {
		close(l.lost)
		l.dialer.Close()
	}
	l.work.Wait()
	if l.client != nil {
		_ = l.client.Close() // an error says that it was closed before
	}
	l.hangUpProbe()
}
