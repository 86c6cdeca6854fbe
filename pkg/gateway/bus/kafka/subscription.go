package kafka

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

const (
	groupPrefix = "openfunction."
	// channelSize is how many fetched records wait for a partition's turn.
	channelSize = 16
)

// subscription is one running Subscribe. Its life is a row of sessions of the consumer group; what it holds lives on from one to the next.
type subscription struct {
	bus.Subscription
	b       *Bus
	group   string
	holder  string // names this Subscribe in what it commits, see signature
	receive func(*bus.Message)
	slots   chan struct{} // one in it for each message handed over and not Done
	reports bus.Reports   // used by run's goroutine, or while a session lasts by that which commits

	ctx  context.Context // done when the subscription is to end
	over context.Context // done when what is handed over is not waited for any longer

	config *sarama.Config
	client sarama.Client
	admin  sarama.ClusterAdmin        // nil until the first session
	start  map[string]map[int32]int64 // by topic, see positions
	ids    map[string]string          // by topic, see kafkaclient.TopicIDs; changes only between sessions

	denied    atomic.Bool // a topic may not be read any more, see kafkaclient.Look
	committer *kafkaclient.Committer
	leaders   kafkaclient.Leaders
	unled     string // what it said last; used by one goroutine at a time, as reports
	committing

	handing sync.Mutex // receive is called for one message after the other

	mu         sync.Mutex
	partitions map[place]*partition
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(ctx context.Context, s bus.Subscription, receive func(*bus.Message)) error {
	if err := s.Validate(); err != nil {
		return err
	}
	for _, t := range s.Topics {
		if err := checkTopic(t); err != nil {
			return fmt.Errorf("subscription %s: %w", s.Name, err)
		}
	}
	if !b.begin() {
		return fmt.Errorf("subscribe %s: %w", s.Name, errClosed)
	}
	defer b.running.Done()
	s.MaxInFlight, s.Grace = cmp.Or(s.MaxInFlight, b.o.Config.MaxInFlight), cmp.Or(s.Grace, bus.DefaultGrace)
	s.Topics = slices.Compact(slices.Sorted(slices.Values(s.Topics)))
	sub := &subscription{
		Subscription: s, b: b, group: groupPrefix + s.Name, holder: rand.Text()[:12], receive: receive,
		slots: make(chan struct{}, s.MaxInFlight), start: map[string]map[int32]int64{}, partitions: map[place]*partition{},
	}
	sub.reports = bus.Reports{Bus: b, Subscription: s, Log: logging.FromContext(b.ctx).With("bus", b.o.Name)}
	if err := sub.run(ctx); err != nil {
		return fmt.Errorf("subscription %s: %w", s.Name, err)
	}
	return nil
}

func (s *subscription) run(ctx context.Context) error {
	var cancel, endOver context.CancelFunc
	s.ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	s.over, endOver = context.WithCancel(context.WithoutCancel(ctx))
	defer endOver()
	dialer := kafkaclient.NewDialer(s.b.o.Dial)
	defer dialer.Close()
	defer context.AfterFunc(s.b.ctx, func() { cancel(); endOver() })()
	defer context.AfterFunc(s.ctx, func() { time.AfterFunc(s.Grace, endOver) })()
	defer context.AfterFunc(s.over, func() { time.AfterFunc(closeTimeout, dialer.Close) })()

	if err := s.open(dialer); err != nil {
		return err
	}
	defer s.client.Close()
	group, err := sarama.NewConsumerGroupFromClient(s.group, s.client)
	if err != nil {
		return err
	}
	var errs sync.WaitGroup
	errs.Go(func() { s.debug(group.Errors()) })
	err = s.loop(group)
	s.reports.End()
	s.drain()
	endOver()
	_ = group.Close() // leaves the group; if the brokers are away they notice by themselves
	errs.Wait()
	return err
}

func (s *subscription) open(dialer *kafkaclient.Dialer) error {
	c, err := kafkaclient.Config(s.b.o.Config.KafkaAccess, s.b.o.Instance, dialer)
	if err != nil {
		return err
	}
	c.ChannelBufferSize = channelSize
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 2, 200*time.Millisecond
	c.Metadata.RefreshFrequency = 5 * time.Second // until new partitions are read

	g := &c.Consumer.Group
	g.Session.Timeout, g.Heartbeat.Interval = SessionTimeout, time.Second
	// All let go of their partitions while they are shared out anew. Nothing that is held is lost by that, and everything that is known
	// of a partition is committed before it can go to another member.
	g.Rebalance.GroupStrategies = []sarama.BalanceStrategy{assignment{held: s.held}}
	g.Rebalance.Timeout = max(settleTime, s.Grace) + 15*time.Second
	g.Rebalance.Retry.Backoff = 500 * time.Millisecond
	c.Net.ReadTimeout = g.Rebalance.Timeout + 10*time.Second // the answer to a join takes as long as a rebalance

	c.Consumer.Offsets.AutoCommit.Enable = false // commits have metadata, see commits
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.MaxWaitTime = 250 * time.Millisecond // a heartbeat waits for the fetch before it
	c.Consumer.Return.Errors = true
	c.Consumer.IsolationLevel = sarama.ReadCommitted // a record of an aborted transaction is no event
	if err := c.Validate(); err != nil {
		return err
	}
	s.config = c
	client, err := sarama.NewClient(s.b.o.Config.Brokers, c)
	if err != nil {
		return err
	}
	s.client = kafkaclient.Leaderless{Client: client}
	s.committer = kafkaclient.NewCommitter(s.client, s.group)
	return nil
}

// loop joins the group again and again. The group stays the same object when brokers are away, so that it comes back as the member
// that it was.
func (s *subscription) loop(group sarama.ConsumerGroup) error {
	wait := retryMin
	for {
		s.reports.Await()
		l := s.b.await(s.ctx)
		if l == nil {
			return nil
		}
		began := time.Now()
		err := s.session(l, group)
		if s.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, sarama.ErrInvalidGroupId) {
			return err
		}
		if err != nil {
			s.interrupted(l, err)
		}
		if time.Since(began) > retryMax {
			wait = retryMin
		}
		if err == nil && wait == retryMin {
			continue // a rebalance: whoever is late holds up the others
		}
		kafkaclient.Pause(s.ctx, wait)
		wait = min(2*wait, retryMax)
	}
}

// session is a member of the group until it is rebalanced, which is no error, or its connection is lost.
func (s *subscription) session(l *link, group sarama.ConsumerGroup) error {
	for _, topic := range s.Topics {
		if err := l.ensure(s.ctx, topic); err != nil && !errors.Is(err, sarama.ErrLeaderNotAvailable) {
			return err
		}
	}
	if err := s.client.RefreshMetadata(s.Topics...); err != nil {
		return err
	}
	if s.admin == nil {
		// It wants metadata first, and must not be closed: that would close the client too.
		admin, err := sarama.NewClusterAdminFromClient(s.client)
		if err != nil {
			return err
		}
		s.admin = admin
	}
	if err := s.identify(); err != nil {
		return err
	}
	if err := s.positions(); err != nil {
		return err
	}
	return group.Consume(s.ctx, s.Topics, &member{subscription: s})
}

// interrupted makes the next session make what is missing.
func (s *subscription) interrupted(l *link, err error) {
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		for _, topic := range s.Topics {
			if errors.Is(s.client.RefreshMetadata(topic), sarama.ErrUnknownTopicOrPartition) {
				l.forget(topic)
				s.start[topic] = map[int32]int64{} // when it is there again, all that is in it is new
			}
		}
	}
	s.reports.Report(refused(s.b.explain(err)))
}

// refused marks err if it is an answer of the brokers that they will most likely give again.
func refused(err error) error {
	var refusal *kafkaclient.Refusal
	if errors.As(err, &refusal) {
		if refusal.Guess {
			return err
		}
		return bus.Refused(err)
	}
	var answer sarama.KError
	if !errors.As(err, &answer) || slices.Contains(passing, answer) {
		return err
	}
	return bus.Refused(err)
}

// passing are the answers of brokers that look for a leader or a coordinator, or have just made a topic.
var passing = []sarama.KError{
	sarama.ErrUnknown, sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrRequestTimedOut,
	sarama.ErrBrokerNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrNetworkException, sarama.ErrOffsetsLoadInProgress,
	sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrNotCoordinatorForConsumer, sarama.ErrNotEnoughReplicas, sarama.ErrIllegalGeneration,
	sarama.ErrUnknownMemberId, sarama.ErrRebalanceInProgress, sarama.ErrNotController, sarama.ErrKafkaStorageError, sarama.ErrFencedLeaderEpoch,
	sarama.ErrUnknownLeaderEpoch, sarama.ErrOffsetNotAvailable, sarama.ErrFencedInstancedId,
}

// debug keeps what the client complains about while it recovers by itself. What it does not recover from ends the session, see kafkaclient.Look.
func (s *subscription) debug(errs <-chan error) {
	for err := range errs {
		if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			s.denied.Store(true)
		}
		logging.FromContext(s.b.ctx).Debugw("kafka client", "bus", s.b.o.Name, "subscription", s.Name, "error", err)
	}
}

// hand calls receive with what take returns. It returns false if that is nothing, or ctx is done.
func (s *subscription) hand(ctx context.Context, take func() *delivery) bool {
	s.handing.Lock()
	defer s.handing.Unlock()
	if ctx.Err() != nil {
		return false
	}
	d := take()
	if d == nil {
		return false
	}
	s.receive(bus.NewMessage(d.message, func(err error) {
		if d.partition.done(d, err) {
			<-s.slots
			s.Room.Leave(d.size)
		}
	}))
	return true
}

// partition returns what is known of a partition.
func (s *subscription) partition(at place) *partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at]
	if p == nil {
		p = newPartition(s, at)
		s.partitions[at] = p
	}
	return p
}

func (s *subscription) all() []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		all = append(all, p)
	}
	return all
}

// held returns the partitions that this member must keep.
func (s *subscription) held() map[string][]int32 {
	held := map[string][]int32{}
	for _, p := range s.all() {
		if p.holds() {
			held[p.topic] = append(held[p.topic], p.id)
		}
	}
	return held
}

// drain waits for what is still handed over: sessions have waited already, unless there was none.
func (s *subscription) drain() {
	for _, p := range s.all() {
		p.settle()
	}
}

// log is for what is about a partition, or with nil about all.
func (s *subscription) log(p *partition) *zap.SugaredLogger {
	log := logging.FromContext(s.b.ctx).With("bus", s.b.o.Name, "subscription", s.Name)
	if p != nil {
		log = log.With("topic", p.topic, "partition", p.id)
	}
	return log
}

func (s *subscription) warn(text string, p *partition, more ...any) { s.log(p).Warnw(text, more...) }
