package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/dispatch"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/cron"
	"github.com/openfunction/events/pkg/gateway/source/kafka"
	"github.com/openfunction/events/pkg/gateway/source/mqtt"
	"github.com/openfunction/events/pkg/gateway/source/redis"
	"github.com/openfunction/events/pkg/gateway/trigger"
	"github.com/openfunction/events/pkg/plan"
)

func (g *Gateway) addSubscriber(next *state, spec plan.Subscriber) error {
	b, err := next.bus(spec.Bus)
	if err != nil {
		return err
	}
	part, err := g.subscriber(spec, b)
	if err == nil {
		next.subscribers[spec.ID] = part
	}
	return err
}

// subscriber returns the part that runs spec: the one that runs already, if nothing about it has changed.
func (g *Gateway) subscriber(spec plan.Subscriber, b *openBus) (*part, error) {
	fp, err := fingerprint(b.spec, spec)
	if err != nil {
		return nil, err
	}
	if p := g.subscribers[spec.ID]; p != nil && p.spec == fp && p.bus == b {
		return p, nil
	}
	dead, err := g.deadLetter(spec, b)
	if err != nil {
		return nil, err
	}
	deliver, deliveries, err := g.deliver(spec, b, dead)
	if err != nil {
		return nil, err
	}
	redelivery := b.redelivery
	if spec.Delivery.KeyOrder {
		redelivery = cmp.Or(b.inOrder, redelivery)
	}
	box, spare := dead("message")
	letters := dispatch.Letters(dispatch.Count(box, spare, g.metrics.Letters(spec.Owner(), noEvent).Buried))
	lost := &refusals{of: "a message that is not an event"}
	deliveries = append(deliveries, lost)
	s, err := trigger.New(trigger.Options{
		Subscriber: spec, Bus: b, Deliver: deliver, DeadLetter: dispatch.Insist(lost.handler(letters, isOmitted)),
		MaxInFlight: b.maxInFlight, Redelivery: redelivery, Workers: &g.workers, Room: g.room,
	})
	if err != nil {
		return nil, err
	}
	subscription := s.Subscription()
	return &part{name: spec.Owner() + " subscriber " + spec.ID, spec: fp, bus: b, subscription: &subscription, run: s.Run, deliveries: deliveries}, nil
}

// noEvent stands for a target in the metrics of messages that cannot have one, since they are not events.
const noEvent = "none: not an event"

// deliverer is what events go through.
type deliverer interface {
	// failing says what does not become of them as it should, "" if all is well.
	failing() string
}

// delivery is what hands events to a target.
type delivery struct {
	to    string
	retry event.Handler
}

// failing says that the target does not take events, "" if it does.
func (d delivery) failing() string {
	if why := dispatch.Failing(d.retry); why != "" {
		return "events are not taken by " + d.to + ": " + why
	}
	return ""
}

// letterbox returns where the dead letters of one of a subscriber's targets go, and those that are too large for that: spare is nil if there is no
// such place. Each target has an origin of its own, or the bus would take the letters of two failed targets of one event for duplicates.
type letterbox func(target string) (dead, spare event.Handler)

func (g *Gateway) deadLetter(spec plan.Subscriber, b *openBus) (letterbox, error) {
	onBus := func(target string) event.Handler {
		topic := b.target(bus.Topic{Name: spec.DeadLetterTopic, Origin: spec.ID + "/" + target})
		return g.observed(dispatch.Retry(topic, spec.Delivery), spec, "deadletter topic "+spec.DeadLetterTopic)
	}
	if spec.DeadLetter == nil {
		return func(target string) (dead, spare event.Handler) { return onBus(target), nil }, nil
	}
	sink, err := g.sink(*spec.DeadLetter)
	if err != nil {
		return nil, err
	}
	box := g.observed(dispatch.Retry(sink, spec.Delivery), spec, "deadletter "+spec.DeadLetter.Name)
	return func(target string) (dead, spare event.Handler) {
		return box, onBus(target) // what has come from the bus most likely fits into a topic of it
	}, nil
}

// deliver returns the handler of the events that fire: to the sink and the topic at once, each with its own retries and dead letter.
func (g *Gateway) deliver(spec plan.Subscriber, b *openBus, dead letterbox) (event.Handler, []deliverer, error) {
	var targets []event.Handler
	var deliveries []deliverer
	add := func(h event.Handler, kind, name, dest string) {
		count := g.metrics.Target(spec.Owner(), name)
		h = dispatch.Retry(count.Attempts(h), spec.Delivery)
		deliveries = append(deliveries, delivery{name, h})
		box, spare := dead(kind)
		box, spare = dispatch.Count(box, spare, count.Buried)
		h = dispatch.DeadLetter(h, dest, box, spare)
		lost := &refusals{of: name}
		deliveries = append(deliveries, lost)
		targets = append(targets, dispatch.Insist(lost.handler(h, isOmitted))) // each for itself: a target that has the event does not get it again
	}
	if spec.Sink != nil {
		sink, err := g.sink(*spec.Sink)
		if err != nil {
			return nil, nil, err
		}
		if spec.Sink.URL == "" { // the display shows what it gets
			sink = g.observed(sink, spec, spec.Sink.Name)
		}
		add(sink, "sink", spec.Sink.Name, spec.Sink.Address())
	}
	if spec.Topic != "" {
		topic := b.target(bus.Topic{Name: spec.Topic, Origin: spec.ID})
		add(g.observed(topic, spec, "topic "+spec.Topic), "topic", "topic "+spec.Topic, "topic "+spec.Topic)
	}
	if len(targets) == 0 {
		return nil, nil, fmt.Errorf("subscriber %s: it has neither a sink nor a topic", spec.ID)
	}
	return dispatch.All(targets...), deliveries, nil
}

func (g *Gateway) observed(h event.Handler, spec plan.Subscriber, to string) event.Handler {
	if g.o.Observe == nil {
		return h
	}
	return dispatch.Then(h, func(e *event.Event) {
		g.o.Observe(Delivered{Trigger: spec.Trigger, EventSource: spec.EventSource, To: to, Event: e})
	})
}

func (g *Gateway) sink(t plan.Target) (event.Handler, error) {
	if t.URL != "" {
		return g.client.Sink(t)
	}
	if g.o.Display == nil {
		return nil, fmt.Errorf("%s has no URL", t.Name)
	}
	return g.o.Display, nil
}

// waitingPause is after how long who posts an event that does not run just now is asked to try again.
const waitingPause = 10 * time.Second

func sourceName(spec plan.Source) string {
	return spec.Owner() + " " + spec.Kind + " event " + spec.Event
}

// addSource adds one event of an EventSource to next: a route of the ingress, or a part.
func (g *Gateway) addSource(next *state, spec plan.Source) error {
	b := noBus
	if spec.Bus != "" {
		var err error
		if b, err = next.bus(spec.Bus); err != nil {
			return err
		}
	}
	key := sourceName(spec)
	if spec.HTTP != nil {
		r, err := g.route(spec, b)
		if err == nil {
			next.routes[key] = route{r, newIntake(spec, b)}
		}
		return err
	}
	fp, err := fingerprint(spec)
	if err != nil {
		return err
	}
	if p := g.sources[key]; p != nil && p.spec == fp && p.bus == b {
		next.sources[key] = p
		return nil
	}
	src, err := g.newSource(spec)
	if err != nil {
		return err
	}
	out, deliveries, err := g.sourceNext(spec, b)
	if err != nil {
		return err
	}
	in := newIntake(spec, b)
	out = in.handler(g.metrics.Source(spec.Owner(), spec.Kind, spec.Event).Handler(out), event.IsPermanent)
	run := func(ctx context.Context, ready func(error)) error { return src.Run(ctx, out, ready) }
	p := &part{name: key, spec: fp, bus: b, run: run, intake: in, deliveries: deliveries}
	if l, ok := src.(source.Leaver); ok {
		p.leave = func(ctx context.Context) error { return l.Leave(ctx, out) }
	}
	next.sources[key] = p
	return nil
}

func (g *Gateway) newSource(spec plan.Source) (source.Source, error) {
	switch {
	case spec.Kafka != nil:
		return kafka.New(kafka.Options{Source: spec, Dial: g.o.Dial, Instance: g.o.Instance, Room: g.room}), nil
	case spec.Redis != nil:
		return redis.New(redis.Options{Source: spec, Dial: g.o.Dial, Instance: g.o.Instance}), nil
	case spec.MQTT != nil:
		return mqtt.New(mqtt.Options{Source: spec, Dial: g.o.Dial, Instance: g.o.Instance}), nil
	case spec.Cron != nil:
		schedule, err := v1alpha1.ParseSchedule(spec.Cron.Schedule, spec.Cron.TimeZone)
		if err != nil {
			return nil, err
		}
		return cron.New(cron.Options{Source: spec, Schedule: schedule}), nil
	}
	return nil, errors.New("the plan says nothing about where its events come from")
}

// sourceNext is where a source's events go: its topic, or without a bus its sink, tried until it or the dead letter sink takes them.
func (g *Gateway) sourceNext(spec plan.Source, b *openBus) (event.Handler, []deliverer, error) {
	if b != noBus {
		dead := plan.EventSourceDeadLetterTopic(spec.Namespace, spec.EventSource)
		letters := b.Topic(bus.Topic{Name: dead, Origin: "refused"})
		owner := plan.Subscriber{EventSource: spec.Namespace + "/" + spec.EventSource}
		count := g.metrics.Letters(spec.Owner(), "topic "+spec.Topic)
		return dispatch.Refused(b.publish(spec), "topic "+spec.Topic, g.observed(count.DeadLetters(letters), owner, "deadletter topic "+dead)), nil, nil
	}
	if spec.Sink == nil {
		return nil, nil, errors.New("it has neither a bus nor a sink")
	}
	owner := plan.Subscriber{EventSource: spec.Namespace + "/" + spec.EventSource}
	sink, err := g.sink(*spec.Sink)
	if err != nil {
		return nil, nil, err
	}
	if spec.Sink.URL == "" {
		sink = g.observed(sink, owner, spec.Sink.Name)
	}
	count := g.metrics.Target(spec.Owner(), spec.Sink.Name)
	sink = count.Attempts(sink)
	if spec.DeadLetter == nil {
		forever := dispatch.Forever(sink, spec.Delivery)
		return forever, []deliverer{delivery{spec.Sink.Name, forever}}, nil
	}
	dead, err := g.sink(*spec.DeadLetter)
	if err != nil {
		return nil, nil, err
	}
	dead = g.observed(count.DeadLetters(dispatch.ForeverLetters(dead, spec.Delivery)), owner, "deadletter "+spec.DeadLetter.Name)
	retry := dispatch.Retry(sink, spec.Delivery)
	return dispatch.DeadLetter(retry, spec.Sink.Address(), dead, nil), []deliverer{delivery{spec.Sink.Name, retry}}, nil
}

// addWaiting adds a route that is answered 503, for an http event that is declared and does not run just now: its callers try again.
func (g *Gateway) addWaiting(next *state, spec plan.Source) error {
	if spec.Kind != plan.KindHTTP {
		return nil
	}
	r, err := g.ingress.NewRoute(ingress.RouteOptions{
		Namespace: spec.Namespace, EventSource: spec.EventSource, Event: spec.Event,
		Away: &event.Unavailable{What: sourceName(spec), After: waitingPause, Err: errors.New(cmp.Or(spec.Why, "it cannot run just now"))},
	})
	if err == nil {
		next.routes[sourceName(spec)] = route{r, newIntake(spec, noBus)}
	}
	return err
}

func (g *Gateway) route(spec plan.Source, b *openBus) (*ingress.Route, error) {
	events := g.metrics.Source(spec.Owner(), spec.Kind, spec.Event)
	r := ingress.RouteOptions{
		Namespace: spec.Namespace, EventSource: spec.EventSource, Event: spec.Event, HTTP: *spec.HTTP,
		MarkKind: spec.MarkKind, SourceURI: plan.SourceURI(spec.Namespace, spec.EventSource, spec.Event), Answered: events.Answered,
	}
	if b != noBus {
		r.Next = events.Handler(b.publish(spec))
		return g.ingress.NewRoute(r)
	}
	if spec.Sink == nil {
		return nil, errors.New("it has neither a bus nor a sink")
	}
	if spec.Sink.URL == "" {
		next, _, err := g.sourceNext(spec, noBus)
		if err != nil {
			return nil, err
		}
		r.Next = events.Handler(next)
		return g.ingress.NewRoute(r)
	}
	sink, err := g.client.Sink(*spec.Sink)
	if err != nil {
		return nil, err
	}
	away, told := spec.Sink.Name, func(err error) error { return err }
	if spec.Sink.Secret { // callers are told nothing of it
		log := g.log.With("source", spec.Owner(), "event", spec.Event, "sink", spec.Sink.Name)
		away, told = "the sink", func(err error) error {
			log.Warnw("a call has no reply", "error", err)
			return errors.New("it gave no reply, see the gateway's log")
		}
	}
	calls := g.metrics.Target(spec.Owner(), spec.Sink.Name)
	r.Timeout = spec.Delivery.Timeout
	r.Call = func(ctx context.Context, e *event.Event) (*ingress.Reply, error) {
		begin := time.Now()
		reply, err := sink.Call(ctx, e)
		taken := errors.Is(err, dispatch.ErrReply) || err == nil && reply.Status >= 200 && reply.Status <= 299
		calls.Attempted(begin, taken)
		events.Handled(taken)
		if errors.Is(err, dispatch.ErrReply) {
			return nil, fmt.Errorf("%w: %w", ingress.ErrReply, told(err))
		}
		if err != nil {
			return nil, &event.Unavailable{What: away, After: time.Second, Err: told(err)}
		}
		return &ingress.Reply{Status: reply.Status, Header: reply.Header, Body: reply.Body}, nil
	}
	return g.ingress.NewRoute(r)
}
