package gateway

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/gateway/bus/kafka"
	"github.com/openfunction/events/pkg/gateway/bus/natsstreaming"
	"github.com/openfunction/events/pkg/gateway/bus/once"
	"github.com/openfunction/events/pkg/plan"
)

// embeddedAckWait is short: a sign of life costs nothing in process, and after a crash it is what a join waits for.
const embeddedAckWait = 5 * time.Second

// openBus is a bus that parts of the plan use.
type openBus struct {
	bus.Bus
	name        string
	plan        plan.Bus
	spec        string
	maxInFlight int
	redelivery  time.Duration // see trigger.Options
	inOrder     time.Duration // the same of an ordered subscription, unless zero
	gate        *gate
	server      Server // nil unless it is embedded
	pruned      bool
	// successor has its name in the plan after, nil while there is none.
	successor atomic.Pointer[openBus]
	full      fullness

	once   sync.Once
	closed chan struct{} // closed once it is
}

// noBus stands for the bus of a source that has none.
var noBus = &openBus{}

// openBus returns the bus of spec: the one that is open already, if nothing about it has changed. It does not wait for the broker.
func (g *Gateway) openBus(spec plan.Bus) (*openBus, error) {
	fp, err := fingerprint(spec)
	if err != nil {
		return nil, err
	}
	if b := g.buses[spec.Name]; b != nil && b.spec == fp {
		return b, nil
	}
	b := &openBus{name: spec.Name, plan: spec, spec: fp, gate: &gate{}, closed: make(chan struct{})}
	var before chan struct{}
	if old := g.buses[spec.Name]; old != nil {
		before = old.closed
	}
	switch {
	case spec.NATSStreaming != nil:
		b.maxInFlight, b.redelivery = spec.NATSStreaming.MaxInFlight, spec.NATSStreaming.AckWait
		b.Bus = once.New(natsstreaming.New(g.ctx, natsstreaming.Options{
			Name: spec.Name, Config: *spec.NATSStreaming, Dial: g.o.Dial, Instance: g.o.Instance + "/" + spec.Name, Before: before,
		}))
	case spec.JetStream != nil:
		b.maxInFlight, b.redelivery = spec.JetStream.MaxInFlight, spec.JetStream.AckWait
		b.inOrder = jetstream.OrderedRedelivery(spec.JetStream.AckWait)
		b.Bus = jetstream.New(g.ctx, jetstream.Options{Name: spec.Name, Config: *spec.JetStream, Dial: g.o.Dial})
	case spec.Kafka != nil:
		b.maxInFlight, b.redelivery = spec.Kafka.MaxInFlight, kafka.SessionTimeout
		b.Bus = once.New(kafka.New(g.ctx, kafka.Options{Name: spec.Name, Config: *spec.Kafka, Dial: g.o.Dial, Instance: g.o.Instance}))
	case spec.Embedded != nil:
		if err := g.openEmbedded(b, spec); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%s: the plan says nothing about its backend", spec.Name)
	}
	return b, nil
}

// BusDir is where the embedded bus of that name keeps its events, in a data directory. No name of an object has the character that stands
// between its parts.
func BusDir(dataDir, name string) string {
	return filepath.Join(dataDir, "bus", strings.NewReplacer(" ", "_", "/", "_").Replace(name))
}

func (g *Gateway) openEmbedded(b *openBus, spec plan.Bus) error {
	if g.o.Embedded == nil {
		return fmt.Errorf("%s: an embedded bus does not run in this program", spec.Name)
	}
	// A changed bus uses the directory of the one before, which must let go of it first.
	if old := g.buses[spec.Name]; old != nil && old.server != nil {
		return fmt.Errorf("%s: an embedded bus cannot be changed while it runs: restart to apply", spec.Name)
	}
	dir := ""
	if g.o.DataDir != "" {
		dir = BusDir(g.o.DataDir, spec.Name)
	}
	// The stream of events has the bound. A server with the same one would have no room left for dead letters and topics.
	server, err := g.o.Embedded(spec.Name, dir, spec.Embedded.SyncInterval)
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Name, err)
	}
	b.server, b.redelivery, b.inOrder = server, embeddedAckWait, jetstream.OrderedRedelivery(embeddedAckWait)
	b.Bus = jetstream.New(g.ctx, jetstream.Options{
		Name: spec.Name, InProcess: server, Trouble: server.Trouble,
		Config: plan.JetStream{
			Replicas: 1, MaxBytes: spec.Embedded.MaxBytes, TopicRetention: spec.Embedded.TopicRetention, AckWait: embeddedAckWait,
		},
	})
	return nil
}

// tellGone tells what is lost with temporary directories, if anything is.
func (g *Gateway) tellGone(ctx context.Context) {
	if g.o.Gone == nil || g.o.DataDir != "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, unsubscribeTime)
	defer cancel()
	var events, letters uint64
	for _, b := range g.buses {
		if b.server == nil {
			continue
		}
		e, l, err := b.Bus.(*jetstream.Bus).Waiting(ctx)
		if err != nil {
			g.log.Warnw("nobody knows how many events go with the bus", "bus", b.name, "error", err)
		}
		events, letters = events+e, letters+l
	}
	if events+letters > 0 {
		g.o.Gone(events, letters)
	}
}

func (b *openBus) close() error {
	defer b.once.Do(func() { close(b.closed) })
	if b.server == nil {
		return b.Close()
	}
	err := b.Close()
	b.server.Close()
	return err
}

// Topic implements bus.Bus.
func (b *openBus) Topic(t bus.Topic) event.Handler { return b.full.handler(t.Name, b.Bus.Topic(t)) }

// target returns the handler that a subscriber publishes with. A bus that is away says so itself, once for all who publish; what it refuses while
// it is there is the publisher's to tell.
func (b *openBus) target(topic bus.Topic) event.Handler {
	next := b.Topic(topic)
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := next.Handle(ctx, e)
		if err != nil && b.Ready() != nil {
			return event.Said(err)
		}
		return err
	})
}

// publish returns the handler that spec publishes with. Events of two kinds that share a topic are not each other's duplicates. What a request
// that is inside while another plan is applied cannot publish here any more goes to the successor.
func (b *openBus) publish(spec plan.Source) event.Handler {
	topic := bus.Topic{Name: spec.Topic}
	if spec.MarkKind {
		topic.Origin = spec.Kind
	}
	next := b.Topic(topic)
	return event.HandlerFunc(func(ctx context.Context, e *event.Event) error {
		err := b.gate.pass(ctx, b, topic.Name)
		if err == nil {
			err = next.Handle(ctx, e)
		}
		if s := b.successor.Load(); s != nil && err != nil && !event.IsPermanent(err) && ctx.Err() == nil {
			return s.publish(spec).Handle(ctx, e)
		}
		return err
	})
}
