// Package mqtt is the event source that subscribes to a topic of an MQTT broker.
package mqtt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// Options are what a Source needs.
type Options struct {
	// Source is the event to read; its MQTT is set.
	Source plan.Source
	// Dial makes every connection. Nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Instance tells this process apart from others of its group, and stays the same when it restarts. Members with numbers do without.
	Instance string

	pause time.Duration // between the pings to a session that is emptied; zero: quietPause
}

// Source reads the messages of a topic and hands them on as events: those of QoS 1 and 2 at least once each, those of QoS 0 at most.
//
// The broker keeps what comes while the source is away in a session, unless the plan wants a clean one. A session of version 5
// ends sessionExpiry after the source was there last; how long one of version 3.1.1 lasts is the broker's affair.
//
// A message that is sent again since its connection was lost is handed on once, and keeps the id of its event. It is handed on
// a second time, under another id, when the process has died before the broker had its acknowledgement; at QoS 1 also when an
// acknowledgement was lost with its connection.
type Source struct {
	o      Options
	source types.URIRef
}

var (
	_ source.Source = (*Source)(nil)
	_ source.Leaver = (*Source)(nil)
)

// New returns a Source that does nothing until Run.
func New(o Options) *Source {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	o.pause = cmp.Or(o.pause, quietPause)
	uri := plan.SourceURI(o.Source.Namespace, o.Source.EventSource, o.Source.Event)
	return &Source{o: o, source: *types.ParseURIRef(uri)}
}

// sessionExpiry is how many seconds a broker keeps a session of version 5 for a source that is away: a week. Nobody tells a broker that an
// event was deleted, so it must not be for ever.
const sessionExpiry = 7 * 24 * 60 * 60

// How long to wait before another attempt: at first, and at most. Brokers come back at once.
const (
	firstWait     = 200 * time.Millisecond
	maxBrokerWait = 5 * time.Second
	// takenOverWait is for somebody who has our client id: whoever connects sends the other one away.
	takenOverWait = 30 * time.Second
	// stable is how long a connection lasts that was no part of such a quarrel.
	stable = time.Minute
)

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, next event.Handler, ready func(error)) error {
	r, err := s.newRun(ctx, next)
	if err != nil {
		return err
	}
	r.ready = ready
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() {
		source.Pause(work, drainTimeout)
		cut()
	})
	defer stop()

	r.inbox = newInbox(r, ctx, work)
	var heir sync.WaitGroup
	defer heir.Wait()
	r.first = sync.OnceFunc(func() {
		if m := r.mqtt; m.Members > 0 && m.Member == 0 {
			heir.Go(func() { r.inherit(ctx, work) })
		}
	})
	r.loop(ctx)
	r.inbox.drain()
	return nil
}

// newRun returns a run without an inbox.
func (s *Source) newRun(ctx context.Context, next event.Handler) (*run, error) {
	m := s.o.Source.MQTT
	server, err := newEndpoint(m)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", m.Topic, err)
	}
	r := &run{Source: s, mqtt: m, server: server, next: next, protocol: v5{}, filter: m.Topic, clientID: m.ClientID}
	if m.Version == 3 {
		r.protocol = v3{}
	}
	if m.Group != "" {
		r.filter, r.clientID = "$share/"+m.Group+"/"+m.Topic, s.memberID(m.Member)
	}
	r.identifier = identifier(r.filter)
	r.log = logging.FromContext(ctx).With("broker", server.address, "topic", m.Topic, "clientID", r.clientID)
	return r, nil
}

// memberID is the client id of a member of the group. If members have numbers, each knows those of the others.
func (s *Source) memberID(n int) string {
	p := s.o.Source
	if p.MQTT.Members == 0 {
		return p.MQTT.ClientID + "-" + short(s.o.Instance)
	}
	return fmt.Sprintf("%s-%s-%d", p.MQTT.ClientID, short(p.Namespace+"/"+p.EventSource+"/"+p.Event), n)
}

// short tells apart those who share a group. Some brokers allow 23 bytes for a client id, and names are long.
func short(instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return hex.EncodeToString(sum[:4])
}

// identifier is the number of a subscription. The broker sends it with its messages.
func identifier(filter string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(filter))
	return int(h.Sum32()%(1<<28-2)) + 1 // the numbers that the protocol has
}

// run is one call of Run.
type run struct {
	*Source
	mqtt       *plan.MQTT
	server     *endpoint
	protocol   protocol
	clientID   string
	filter     string
	identifier int
	next       event.Handler
	ready      func(error)
	log        *zap.SugaredLogger
	inbox      *inbox

	first func() // is called when messages come

	known bool     // there was a session
	said  string   // what was said last, in the log and to ready
	short int      // connections that were lost soon after they began to receive, one after the other
	once  sync.Map // what is said only once
}

// loop connects again and again until ctx is done.
func (r *run) loop(ctx context.Context) {
	wait := firstWait
	for ctx.Err() == nil {
		began := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > stable {
			wait, r.short = firstWait, 0
		} else if r.said == receiving {
			r.short++
		}
		err = r.explain(err)
		r.away(err)
		source.Pause(ctx, max(wait, pause(err)))
		wait = min(2*wait, maxBrokerWait)
	}
}

// session is one connection. It returns why it ended.
func (r *run) session(ctx context.Context) error {
	c, answer, err := r.connect(ctx, r.mqtt.CleanSession)
	if err != nil {
		return err
	}
	defer c.close()
	r.established(answer)
	r.inbox.attach(c, answer.sessionPresent)
	every := keepAlive / 2
	if k := time.Duration(answer.keepAlive) * time.Second / 2; k > 0 {
		every = min(every, k)
	}
	return r.converse(ctx, c, every, func() error { return r.read(ctx, c, answer) })
}

// connect returns a connection that the server has accepted. A clean one has no session before, nor after it.
func (r *run) connect(ctx context.Context, clean bool) (*connection, connack, error) {
	hello := connect{
		clientID: r.clientID, username: r.server.username, password: r.server.password, clean: clean,
		keepAlive: uint16(keepAlive / time.Second), sessionExpiry: sessionExpiry, receiveMaximum: receiveMaximum,
	}
	if clean {
		hello.sessionExpiry = 0
	}
	c, answer, err := open(ctx, r.server, r.o.Dial, r.protocol, hello)
	if err == nil && answer.code != 0 {
		c.close()
		err = r.refusedConnect(answer)
	}
	return c, answer, err
}

// converse runs talk, which receives from c, and meanwhile keeps the connection alive, and leaves when ctx is done.
func (r *run) converse(ctx context.Context, c *connection, every time.Duration, talk func() error) error {
	defer r.inbox.detach()
	var helpers sync.WaitGroup
	defer helpers.Wait()
	ended := make(chan struct{})
	defer close(ended)
	helpers.Go(func() { c.ping(ended, every) })
	helpers.Go(func() {
		select {
		case <-ended:
		case <-ctx.Done():
			r.inbox.drain()
			c.leave()
		}
	})
	return talk()
}

// established says what a session does not keep that it should.
func (r *run) established(answer connack) {
	if r.mqtt.CleanSession {
		return
	}
	if r.known && !answer.sessionPresent {
		r.log.Warnw("the broker has forgotten the session: messages that came while it was away are lost")
	}
	r.known = true
	if answer.sessionExpiry < sessionExpiry {
		r.sayOnce("expiry", "the broker keeps messages for a source that is away for less than a week", "seconds", answer.sessionExpiry)
	}
}

// subscribeID is an identifier that servers come to last for what they send: some confuse theirs and ours.
const subscribeID = 65535

// read subscribes and takes what comes until the connection ends.
func (r *run) read(ctx context.Context, c *connection, answer connack) error {
	s := subscribe{id: subscribeID, filter: r.filter, qos: r.mqtt.QOS, identifier: r.identifier}
	if answer.noIdentifiers {
		s.identifier = 0
	}
	if err := c.send(s); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	began, subscribed := time.Now(), false
	asked := began // not counting the time that we did not listen
	late := time.AfterFunc(connectTimeout, c.close)
	defer late.Stop()
	for {
		if subscribed {
			r.inbox.room(ctx)
		} else { // the answer may be behind more messages that a session has kept than there is room for
			late.Stop()
			full := time.Now()
			r.inbox.room(ctx)
			asked = asked.Add(time.Since(full))
			late.Reset(connectTimeout - time.Since(asked))
		}
		packet, err := c.receive()
		if err != nil && !subscribed && time.Since(asked) >= connectTimeout {
			return fmt.Errorf("subscribe: no answer within %s", connectTimeout)
		}
		if err != nil {
			return err
		}
		r.settled(began)
		switch p := packet.(type) {
		case *message:
			r.inbox.receive(p)
		case pubrel:
			if err := r.inbox.release(p.id); err != nil {
				return err
			}
		case suback:
			if err := r.granted(p); err != nil {
				return err
			}
			late.Stop()
			subscribed = true
			r.receiving()
		case disconnect:
			return r.disconnected(p)
		case pingresp:
		default:
			return fmt.Errorf("packet %T was not expected", packet)
		}
	}
}

// receiving is what was said last while messages come.
const receiving = "receiving"

// quarrelsome is how many connections in a row may be lost soon before it is said that somebody else may have our client id. Then,
// and until one lasts, nothing more is logged.
const quarrelsome = 3

func (r *run) away(err error) {
	said := "away"
	if _, ok := err.(*problem); ok {
		said = err.Error()
	}
	if r.said == said {
		return
	}
	if r.short == quarrelsome && said == "away" {
		err = fmt.Errorf("%w; the connection is lost again and again, soon after it was made: another client may use the client id %q",
			err, r.clientID)
	}
	if r.short <= quarrelsome {
		r.log.Warnw("mqtt messages do not come, trying again", "error", err)
	}
	r.said = said
	r.ready(err)
}

func (r *run) receiving() {
	if r.said != "" && r.short < quarrelsome {
		r.log.Infow("mqtt messages come again")
	}
	r.said = receiving
	r.ready(nil)
	r.first()
}

// settled ends the silence of a quarrel.
func (r *run) settled(began time.Time) {
	if r.short >= quarrelsome && time.Since(began) > stable {
		r.short = 0
		r.log.Infow("mqtt messages come again")
	}
}

func (r *run) sayOnce(key, message string, keysAndValues ...any) {
	if _, said := r.once.LoadOrStore(key, true); !said {
		r.log.Warnw(message, keysAndValues...)
	}
}

// wanted tells whether a message is of our subscription. A session keeps those that it had under another topic, and nobody
// knows their names, to end them. The topic alone does not tell: some brokers rewrite topics.
func (r *run) wanted(m *message) bool {
	if m.identifier == 0 || m.identifier == r.identifier || matches(r.mqtt.Topic, m.topic) {
		return true
	}
	r.sayOnce("unwanted", "messages of a subscription that the session had before are dropped: "+
		"another consumerID, or an end of the session at the broker, ends that", "messageTopic", m.topic)
	return false
}

// matches tells whether a topic is one of a filter.
func matches(filter, topic string) bool {
	filters, levels := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, f := range filters {
		if f == "#" {
			return true
		}
		if i == len(levels) || f != "+" && f != levels[i] {
			return false
		}
	}
	return len(filters) == len(levels)
}
