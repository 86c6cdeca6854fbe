// Package kafka is the event source that reads a Kafka topic as a member of a consumer group.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/v2/types"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
	"github.com/openfunction/events/pkg/gateway/room"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// Options are what a Source needs.
type Options struct {
	// Source is the event to read; its Kafka is set.
	Source plan.Source
	// Dial makes every connection, also to the addresses that brokers advertise. Nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Instance is the client id that brokers see.
	Instance string
	// Room bounds the bytes of the records that are being handled; nil means no bound.
	Room *room.Room
}

// Source reads the records of a topic and hands them on as events, at least once each.
//
// Records with the same key are handled one after the other in their order, those without a key at once. A group that has no
// offsets begins with what is produced after Run said that it is ready, or with the oldest record when the plan says so; a topic
// or partition that is created later is read from its beginning.
type Source struct {
	o      Options
	source types.URIRef
}

var _ source.Source = (*Source)(nil)

// New returns a Source that does nothing until Run.
func New(o Options) *Source {
	uri := plan.SourceURI(o.Source.Namespace, o.Source.EventSource, o.Source.Event)
	return &Source{o: o, source: *types.ParseURIRef(uri)}
}

// How long to wait before another attempt: at first, and at most. Brokers come back at once.
const (
	firstWait     = 200 * time.Millisecond
	maxBrokerWait = 5 * time.Second
)

// stopTimeout bounds how long Run waits for the brokers once its context is done. It leaves room for drainTimeout.
const stopTimeout = drainTimeout + 5*time.Second

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, next event.Handler, ready func(error)) error {
	dialer := kafkaclient.NewDialer(s.o.Dial)
	defer dialer.Close()
	config, err := s.config(dialer)
	if err != nil {
		return fmt.Errorf("consume topic %s: %w", s.o.Source.Kafka.Topic, err)
	}
	var guard sync.WaitGroup
	finished := make(chan struct{})
	guard.Go(func() { closeLate(ctx, dialer, finished) })
	defer guard.Wait()
	defer close(finished)

	r := &run{
		Source: s, kafka: s.o.Source.Kafka, config: config, ready: ready,
		log:   logging.FromContext(ctx).With("topic", s.o.Source.Kafka.Topic, "group", s.o.Source.Kafka.ConsumerGroup),
		share: s.o.Room.Share(1<<20, 1),
	}
	r.handover = source.Handover{Next: next, Log: r.log}
	defer r.share.Close()
	if err := r.run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("consume topic %s: %w", r.kafka.Topic, err)
	}
	return nil
}

// closeLate ends all connections when finished is not closed some time after ctx is done: what waits for an answer has no context.
func closeLate(ctx context.Context, dialer *kafkaclient.Dialer, finished <-chan struct{}) {
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(stopTimeout)
	defer late.Stop()
	select {
	case <-finished:
	case <-late.C:
		dialer.Close()
	}
}

// run is one call of Run. Its goroutine is also the one that calls Setup, and waits in Cleanup for the one that commits, so that start and state need no lock.
type run struct {
	*Source
	kafka  *plan.Kafka
	config *sarama.Config
	ready  func(error)
	log    *zap.SugaredLogger
	share  *room.Share

	client    sarama.Client
	committer *kafkaclient.Committer
	leaders   kafkaclient.Leaders
	admin     sarama.ClusterAdmin // nil until the first session
	start     map[int32]int64     // see positions; nil until it is known
	// topicID tells the topic from earlier ones of its name; it changes only between sessions.
	topicID string
	state   state
	// problem tells what ready was called with last.
	problem string

	handover source.Handover
	denied   atomic.Bool // the topic may not be read any more, see kafkaclient.Look
}

// run returns when ctx is done or when only another configuration can help.
func (r *run) run(ctx context.Context) error {
	client, err := sarama.NewClient(r.kafka.Brokers, r.config)
	if err != nil {
		return err
	}
	defer client.Close()
	r.client, r.committer = kafkaclient.Leaderless{Client: client}, kafkaclient.NewCommitter(client, r.kafka.ConsumerGroup)
	group, err := sarama.NewConsumerGroupFromClient(r.kafka.ConsumerGroup, r.client)
	if err != nil {
		return err
	}
	var errs sync.WaitGroup
	errs.Go(func() { r.debug(group.Errors()) })
	defer errs.Wait()
	defer group.Close()
	return r.loop(ctx, group)
}

// loop joins the group again and again. The group stays the same object when brokers are away, so that it comes back as
// the member that it was, and the others need not wait until its session times out.
func (r *run) loop(ctx context.Context, group sarama.ConsumerGroup) error {
	wait := firstWait
	for ctx.Err() == nil {
		began := time.Now()
		err := r.session(ctx, group)
		if ctx.Err() != nil {
			return nil
		}
		if onlyConfigurationHelps(err) {
			return err
		}
		if err != nil {
			r.away(err)
		}
		if time.Since(began) > maxBrokerWait {
			wait = firstWait
		}
		if err == nil && wait == firstWait {
			continue // a rebalance: whoever is late holds up the others
		}
		kafkaclient.Pause(ctx, wait)
		wait = min(2*wait, maxBrokerWait)
	}
	return nil
}

// session is a member of the group until it is rebalanced, which is no error, or its connection is lost.
func (r *run) session(ctx context.Context, group sarama.ConsumerGroup) error {
	if err := r.client.RefreshMetadata(r.kafka.Topic); err != nil {
		return err
	}
	if r.admin == nil {
		// It wants metadata first, and must not be closed: that would close the client too.
		admin, err := sarama.NewClusterAdminFromClient(r.client)
		if err != nil {
			return err
		}
		r.admin = admin
	}
	if err := r.identify(); err != nil {
		return err
	}
	if r.start == nil {
		start, err := r.positions()
		if err != nil {
			return err
		}
		r.start = start
	}
	ctx, end := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	look := kafkaclient.Look{Admin: r.admin, Topics: []string{r.kafka.Topic}, IDs: map[string]string{r.kafka.Topic: r.topicID}, Denied: &r.denied}
	looking.Go(func() { end(look.Wait(ctx)) })
	defer looking.Wait()
	defer end(nil)
	err := group.Consume(ctx, []string{r.kafka.Topic}, &member{run: r, marked: map[int32]int64{}})
	if cause := context.Cause(ctx); errors.Is(cause, sarama.ErrTopicAuthorizationFailed) {
		return cause
	}
	return err
}

func onlyConfigurationHelps(err error) bool {
	return errors.Is(err, sarama.ErrInvalidTopic) || errors.Is(err, sarama.ErrInvalidGroupId)
}

// state is what was said last in the log.
type state int

const (
	stateUnknown state = iota
	stateReceiving
	stateAway
	stateRefused
	stateNoTopic
	stateNoLeader
)

// away says why nothing is received, to ready as exactly as it is known and in the log once.
func (r *run) away(err error) {
	now, warning := stateAway, "kafka is away, trying again"
	problem := kafkaclient.Explain(err, r.kafka.KafkaAccess)
	text := "away" // the text of what is not explained may differ with each attempt
	var refusal *kafkaclient.Refusal
	switch {
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		now, warning = stateNoTopic, "kafka topic does not exist, waiting for it"
		problem = fmt.Errorf("topic %s does not exist on %s: create it, or correct topic", r.kafka.Topic, strings.Join(r.kafka.Brokers, ","))
		text = problem.Error()
		// When it appears, all that is in it is new.
		r.start = map[int32]int64{}
	case errors.As(problem, &refusal):
		text = refusal.Error()
		if !refusal.Guess {
			now, warning = stateRefused, "kafka refuses the client, trying again"
		}
	}
	if r.problem != text {
		r.problem = text
		r.ready(problem)
	}
	if r.state != now {
		r.state = now
		r.log.Warnw(warning, "error", problem)
	}
}

// tell says whether all partitions are read. Sarama waits for the leader of one that has none, and reads the others meanwhile.
func (r *run) tell() {
	err := r.leaders.Judge(r.log, r.client, []string{r.kafka.Topic})
	if err == nil {
		r.receiving()
		return
	}
	r.state = stateNoLeader // which Judge has logged
	if r.problem != err.Error() {
		r.problem = err.Error()
		r.ready(err)
	}
}

func (r *run) receiving() {
	if r.state == stateReceiving {
		return
	}
	if r.state != stateUnknown && r.state != stateNoLeader {
		r.log.Infow("kafka topic is read again")
	}
	r.state, r.problem = stateReceiving, ""
	r.ready(nil)
}

// debug keeps what the client complains about while it recovers by itself. What it does not recover from ends the session, see kafkaclient.Look.
func (r *run) debug(errs <-chan error) {
	for err := range errs {
		if errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			r.denied.Store(true)
		}
		r.log.Debugw("kafka client", "error", err)
	}
}
