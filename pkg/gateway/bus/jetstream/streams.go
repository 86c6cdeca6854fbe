package jetstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
)

// The streams. Events of sources are kept while a subscription wants them; dead letters and subscribers' own topics are kept for those
// who come later to look.
const (
	eventsName      = "openfunction-events"
	deadLettersName = "openfunction-deadletters"
	ownPrefix       = "openfunction-"
	topicPrefix     = "openfunction-topic-"

	topicsAge        = 7 * 24 * time.Hour
	duplicatesWindow = 2 * time.Minute
)

// Error codes of the server that nats.go has no name for.
const (
	codeNoPeers              jetstream.ErrorCode = 10005
	codeUnavailable          jetstream.ErrorCode = 10008 // nobody leads the servers
	codeNoLeader             jetstream.ErrorCode = 10009
	codeTooManyConsumers     jetstream.ErrorCode = 10026
	codeTooManyStreams       jetstream.ErrorCode = 10027
	codeNotEnabledForAccount jetstream.ErrorCode = 10039
	codeNotClustered         jetstream.ErrorCode = 10074
	codeNotEnabled           jetstream.ErrorCode = 10076

	codeAccountExceeded jetstream.ErrorCode = 10002
	codeServerExceeded  jetstream.ErrorCode = 10023
	codeMemoryExceeded  jetstream.ErrorCode = 10028
	codeStorageExceeded jetstream.ErrorCode = 10047
	codeSubjectsOverlap jetstream.ErrorCode = 10065
	codeStoreFailed     jetstream.ErrorCode = 10077
	codeHeaderTooLarge  jetstream.ErrorCode = 10097
)

func (b *Bus) stream(c jetstream.StreamConfig) jetstream.StreamConfig {
	c.Storage = b.o.Storage
	c.Replicas = max(1, b.o.Config.Replicas)
	c.Discard = jetstream.DiscardNew
	c.Duplicates = duplicatesWindow
	c.Metadata = map[string]string{replicasFrom: b.o.Name}
	if c.MaxBytes > 0 {
		c.Metadata[maxBytesFrom] = b.o.Name
	}
	if c.MaxAge > 0 && b.o.Config.TopicRetention > 0 {
		c.Metadata[maxAgeFrom] = b.o.Name
	}
	return c
}

func (b *Bus) eventsStream() jetstream.StreamConfig {
	maxBytes := b.o.Config.MaxBytes
	if maxBytes == 0 {
		maxBytes = -1
	}
	return b.stream(jetstream.StreamConfig{
		Name: eventsName, Description: "Events of EventSources, until every Trigger has dealt with them.",
		Subjects: []string{"openfunction.*.*.*"}, Retention: jetstream.InterestPolicy, MaxBytes: maxBytes,
	})
}

func (b *Bus) deadLettersStream() jetstream.StreamConfig {
	return b.stream(jetstream.StreamConfig{
		Name: deadLettersName, Description: "Events that could not be delivered.", MaxBytes: -1,
		Subjects: []string{"openfunction.*.trigger.*.deadletter", "openfunction.*.eventsource.*.deadletter"},
	})
}

// topicStream is a stream of its own for each topic: the server cannot add a subject to a stream for several processes at once without
// storing twice what comes on it.
func (b *Bus) topicStream(topic string) jetstream.StreamConfig {
	return b.stream(jetstream.StreamConfig{
		Name: topicStreamName(topic), Description: "A topic that subscribers of Triggers publish on.",
		Subjects: []string{topic}, MaxBytes: -1, MaxAge: cmp.Or(b.o.Config.TopicRetention, topicsAge),
	})
}

// maxStreamName is less than the 255 bytes that the server takes.
const maxStreamName = 200

// topicStreamName is another one for each topic: what stands for itself does not occur in what stands for something else.
func topicStreamName(topic string) string {
	var name strings.Builder
	name.WriteString(topicPrefix)
	for _, c := range []byte(topic) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			name.WriteByte(c)
		case c == '.':
			name.WriteByte('=')
		default:
			fmt.Fprintf(&name, "%%%02X", c)
		}
	}
	if name.Len() > maxStreamName {
		return fmt.Sprintf("%s~%x", topicPrefix, sha256.Sum256([]byte(topic)))
	}
	return name.String()
}

// lookup is the question which stream holds a topic: the answer, once done is closed.
type lookup struct {
	done chan struct{}
	name string
	err  error
}

// streamOf returns the stream that holds the topic and makes it if need be. All who ask at once share one answer; a bad one is not kept.
func (b *Bus) streamOf(ctx context.Context, l *link, topic string) (string, error) {
	if err := checkTopic(topic); err != nil {
		return "", event.Permanent(err)
	}
	q := b.ask(l, topic)
	if q == nil {
		return "", errClosed
	}
	select {
	case <-q.done:
		return q.name, q.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// ask returns nil when the bus is closed. The question goes on when who asked first does not wait any more: others do.
func (b *Bus) ask(l *link, topic string) *lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.streams[topic]; q != nil {
		return q
	}
	if !b.begin() {
		return nil
	}
	q := &lookup{done: make(chan struct{})}
	l.streams[topic] = q
	go func() {
		defer b.running.Done()
		defer close(q.done)
		own := streamName(topic)
		watched, end := b.watch(l.ctx, func(subject string) bool {
			return concernsStream(subject, own, "") || subject == "$JS.API.STREAM.NAMES" && strings.HasPrefix(own, topicPrefix)
		})
		defer end()
		ctx, cancel := context.WithTimeout(watched, requestTimeout)
		defer cancel()
		defer context.AfterFunc(b.ctx, cancel)()
		if q.name, q.err = b.findStream(ctx, l, topic); q.err != nil {
			q.err = whyDenied(watched, q.err)
			if l.ctx.Err() != nil {
				q.err = nats.ErrDisconnected
			}
			q.err = fmt.Errorf("stream for topic %s: %w", topic, q.err)
			l.forget(topic)
		}
	}()
	return q
}

// forget makes the next streamOf ask the server again.
func (l *link) forget(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, topic)
}

// streamName returns the name of the stream of ours that a topic is for.
func streamName(topic string) string {
	switch tokens := strings.Split(topic, "."); {
	case isOfEvents(tokens):
		return eventsName
	case tokens[0] == "openfunction" && len(tokens) == 5 && tokens[4] == "deadletter" && (tokens[2] == "trigger" || tokens[2] == "eventsource"):
		return deadLettersName
	}
	return topicStreamName(topic)
}

func (b *Bus) findStream(ctx context.Context, l *link, topic string) (string, error) {
	var c jetstream.StreamConfig
	switch streamName(topic) {
	case eventsName:
		c = b.eventsStream()
	case deadLettersName:
		c = b.deadLettersStream()
	default:
		c = b.topicStream(topic)
		name, err := l.js.StreamNameBySubject(ctx, topic)
		if !errors.Is(err, jetstream.ErrStreamNotFound) && name != c.Name {
			return name, err
		}
	}
	err := b.ensure(ctx, l, c)
	if code(err) == codeSubjectsOverlap {
		return l.js.StreamNameBySubject(ctx, topic) // someone made a stream for it: use that
	}
	return c.Name, err
}

// ensure makes the stream, or gives it what c asks for and it lacks. What a person changed besides stays as it is.
func (b *Bus) ensure(ctx context.Context, l *link, c jetstream.StreamConfig) error {
	for attempt := 0; ; attempt++ {
		done, err := b.tryEnsure(ctx, l, c)
		if done || err != nil {
			return err
		}
		if attempt < 2 { // it was made, or opened
			continue
		}
		// Another process changes the stream at this moment.
		select {
		case <-time.After(time.Duration(attempt) * 10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("stream %s: %w", c.Name, ctx.Err())
		}
	}
}

func (b *Bus) tryEnsure(ctx context.Context, l *link, c jetstream.StreamConfig) (done bool, err error) {
	s, err := l.js.Stream(ctx, c.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if c.Name == eventsName {
			c.MaxMsgSize = closedSize
		}
		if _, err = l.js.CreateStream(ctx, c); errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return false, nil
		}
		return err == nil && !isClosed(c), wrapStream("create", c.Name, err)
	}
	if err != nil {
		return false, wrapStream("read", c.Name, err)
	}
	has := s.CachedInfo().Config
	want := has
	want.Metadata = maps.Clone(has.Metadata)
	b.settle(c, has, &want)
	want.Subjects = slices.Clone(has.Subjects)
	if isClosed(has) {
		if err := keepForLatecomers(ctx, s); err != nil {
			return false, wrapStream("open", c.Name, err)
		}
		want.MaxMsgSize = -1
		want.Subjects = slices.DeleteFunc(want.Subjects, func(s string) bool { return s == closedSubject })
	}
	for _, subject := range c.Subjects { // which only a person, or an earlier version, took away
		if !slices.Contains(want.Subjects, subject) {
			want.Subjects = append(want.Subjects, subject)
		}
	}
	if want.Replicas == has.Replicas && want.MaxBytes == has.MaxBytes && want.MaxAge == has.MaxAge && want.MaxMsgSize == has.MaxMsgSize &&
		slices.Equal(want.Subjects, has.Subjects) && maps.Equal(want.Metadata, has.Metadata) {
		b.inspect(has)
		return true, nil
	}
	// The server has no compare-and-set for this: read it again to see whether another process overwrote it.
	if _, err = l.js.UpdateStream(ctx, want); err == nil && shorter(want.MaxAge, has.MaxAge) {
		logging.FromContext(b.ctx).Warnw("the topic keeps events for less long than before: those that are older are deleted",
			"bus", b.o.Name, "stream", c.Name, "from", has.MaxAge, "to", want.MaxAge)
	}
	return false, wrapStream("update", c.Name, err)
}

// Which bus the replicas, the bound and the age of a stream are from, in its metadata. Buses on one server share its streams.
const (
	replicasFrom = "events.openfunction.io/replicas-from"
	maxBytesFrom = "events.openfunction.io/max-bytes-from"
	maxAgeFrom   = "events.openfunction.io/max-age-from"
)

// settle gives want, which is what the stream has, the replicas, the bound and the age of c. What another bus is served by stays: more replicas, any
// bound, and how long topics keep events that it made or set. A bus that asks for more than there is has its way, and only it may take that back.
func (b *Bus) settle(c, has jetstream.StreamConfig, want *jetstream.StreamConfig) {
	set := func(key, name string) {
		if want.Metadata == nil {
			want.Metadata = map[string]string{}
		}
		want.Metadata[key] = name
	}
	own := func(key string) { set(key, b.o.Name) }
	owner := func(key string) string { return has.Metadata[key] }
	switch from := owner(replicasFrom); {
	case c.Replicas > has.Replicas, from == b.o.Name, from == "" && c.Replicas == has.Replicas:
		if from != "" && from != b.o.Name && owner(maxAgeFrom) == "" && has.MaxAge > 0 {
			set(maxAgeFrom, from) // who made it goes on saying for how long it keeps events
		}
		want.Replicas = c.Replicas
		own(replicasFrom)
	case c.Replicas < has.Replicas:
		b.tellOther(c.Name, "replicas", int64(c.Replicas), int64(has.Replicas), from)
	}
	if c.MaxAge > 0 && b.o.Config.TopicRetention > 0 {
		maker := owner(replicasFrom)
		switch from := owner(maxAgeFrom); {
		case from == b.o.Name, from == "" && (maker == "" || maker == b.o.Name || shorter(has.MaxAge, c.MaxAge)):
			want.MaxAge = c.MaxAge
			own(maxAgeFrom)
		case c.MaxAge != has.MaxAge:
			b.tellOther(c.Name, "topicRetention", c.MaxAge, has.MaxAge, cmp.Or(from, maker))
		}
	}
	if c.Name != eventsName {
		return
	}
	switch from := owner(maxBytesFrom); {
	case has.MaxBytes <= 0, from == b.o.Name, from == "" && c.MaxBytes > 0:
		if want.MaxBytes = c.MaxBytes; c.MaxBytes > 0 {
			own(maxBytesFrom)
		} else {
			delete(want.Metadata, maxBytesFrom)
		}
	case c.MaxBytes != has.MaxBytes:
		b.tellOther(c.Name, "maxBytes", max(0, c.MaxBytes), has.MaxBytes, from)
	}
}

// shorter tells whether events that are kept for the age old would go at once when they are kept for the age now; 0 is for ever.
func shorter(now, old time.Duration) bool { return now > 0 && (old == 0 || now < old) }

// tellOther logs once that another bus has set what this one wants otherwise.
func (b *Bus) tellOther(stream, field string, wanted, has any, from string) {
	if _, told := b.told.LoadOrStore(stream+" "+field, true); told {
		return
	}
	if from == "" {
		from = "nobody that is known"
	}
	logging.FromContext(b.ctx).Warnw("the stream keeps what another bus on this server has set: give both the same value, or an account of the server each; "+
		"if that bus is gone, set the value with nats stream edit",
		"bus", b.o.Name, "stream", stream, "field", field, "wanted", wanted, "has", has, "from", from)
}

// tellForgetful logs once that a stream, which others made or changed, does not keep subscriptions that are away.
func (b *Bus) tellForgetful(stream string, after time.Duration) {
	if _, told := b.told.LoadOrStore(stream+" inactive_threshold", true); told {
		return
	}
	logging.FromContext(b.ctx).Warnw("the stream forgets a subscription that is away for too long, and what waits with it is skipped: remove inactive_threshold "+
		"from its consumer_limits", "bus", b.o.Name, "stream", stream, "after", after)
}

func isOfEvents(topic []string) bool { return topic[0] == "openfunction" && len(topic) == 4 }

// A new stream of events keeps for a while what nobody wants. A server that lost its streams has lost their consumers too, and drops what is
// published before they attach again, which each does in a process of its own. The price: in that time, nothing makes room in the stream.
const (
	// latecomersName is a consumer that never acknowledges. No subscription can have the name.
	latecomersName = "openfunction~latecomers"
	// latecomersTime is after how long the server removes it, and what only it wants. Whoever was connected is back by then: a server that
	// vanished is noticed within three pingIntervals, and looked for every reconnectMax.
	latecomersTime = 30 * time.Second
)

func keepForLatecomers(ctx context.Context, stream jetstream.Stream) error {
	_, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: latecomersName, Description: "Keeps the first events of the stream for subscriptions that are not back yet.",
		AckPolicy: jetstream.AckExplicitPolicy, InactiveThreshold: latecomersTime,
	})
	if err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
		return fmt.Errorf("consumer %s: %w", latecomersName, err)
	}
	return nil
}

// Until it has that consumer, a new stream of events is closed.
const (
	// closedSize closes it: the headers of every event are larger. That many may open it at once, which adding a subject would not bear.
	closedSize = 1
	// closedSubject is all that a closed stream of an earlier version takes.
	closedSubject = "_OPENFUNCTION.events.closed"
)

func isClosed(c jetstream.StreamConfig) bool {
	return c.Name == eventsName && (c.MaxMsgSize == closedSize || slices.Contains(c.Subjects, closedSubject))
}

// wasClosed tells whether a message that was too large for the topic's stream came while that was closed. A limit that a person set is
// greater; an open stream has none.
func (b *Bus) wasClosed(ctx context.Context, l *link, topic string) bool {
	name, err := b.streamOf(ctx, l, topic)
	if err != nil || name != eventsName {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := l.js.Stream(ctx, name)
	return err != nil || s.CachedInfo().Config.MaxMsgSize <= closedSize
}

func wrapStream(verb, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s stream %s: %w%s", verb, name, err, cure(err))
}

// cure says what to do about an error of a stream or consumer, if that is known.
func cure(err error) string {
	switch code(err) {
	case codeNotClustered:
		return ": a single server keeps one replica: set spec.jetStream.replicas to 1, or connect to a cluster"
	case codeNoPeers:
		return ": lower spec.jetStream.replicas, or start the servers that are missing or have no room"
	case codeSubjectsOverlap:
		return ": another stream has some of its subjects: take them away from that one with nats stream edit, or give the bus an account of its own"
	case codeNotEnabled, codeNotEnabledForAccount:
		return ": " + switchOn
	case codeTooManyConsumers:
		return ": each subscriber has one: raise max_consumers of the bus's account in the server's configuration or, if it has one, of the stream; or remove consumers that nobody needs with nats consumer rm"
	case codeTooManyStreams:
		return ": raise max_streams of the bus's account in the server's configuration, or remove streams that nobody needs with nats stream rm"
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return ": " + switchOn
	}
	return ""
}

const switchOn = "JetStream is off there: switch it on with jetstream {} in the server's configuration, or its option -js, and for the account of the bus if the server has accounts"

// code returns the server's error code in err, or 0.
func code(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	var js jetstream.JetStreamError
	if errors.As(err, &js) && js.APIError() != nil {
		return js.APIError().ErrorCode
	}
	return 0
}

func checkTopic(topic string) error {
	for _, token := range strings.Split(topic, ".") {
		if token == "" {
			return fmt.Errorf("topic %q: an empty part between dots", topic)
		}
	}
	if strings.ContainsAny(topic, "*> \t\r\n\x00") || topic[0] == '$' || topic[0] == '_' && strings.HasPrefix(topic, "_INBOX.") {
		return fmt.Errorf("topic %q: not usable as a NATS subject", topic)
	}
	return nil
}
