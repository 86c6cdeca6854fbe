package mqtt

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/lanes"
	"github.com/openfunction/events/pkg/gateway/source"
)

const (
	// receiveMaximum bounds the messages of QoS 1 and 2 that a server of version 5 sends before it has their acknowledgements.
	receiveMaximum = 128
	// maxInFlight and maxBytes bound what was received and is not taken. Beyond that we stop reading, for servers of version 3.1.1
	// and messages of QoS 0.
	maxInFlight = 2 * receiveMaximum
	maxBytes    = 64 << 20
	// drainTimeout bounds how long handlers may go on after the source was stopped.
	drainTimeout = 10 * time.Second
)

// inbox is what was received and is not acknowledged to its end. It outlives connections: what a server sends again since its
// connection was lost is recognised and not handed on twice, as long as the session lasts.
//
// Messages of a topic are handed on one after the other in their order, those of different topics at once. With a group, which has
// no order, all are handed on at once. They are acknowledged in the order in which they came, as the protocol wants.
type inbox struct {
	event  func(*message) *event.Event
	wanted func(*message) bool
	log    *zap.SugaredLogger
	group  bool
	ctx    context.Context // done: nothing is tried again
	work   context.Context // of the handlers, done some time after ctx

	mu       sync.Mutex
	conn     *connection          // nil: away
	queue    []*delivery          // of conn, of QoS 1 and 2, in their order; those before the first that is not done are acknowledged
	held     map[uint16]*delivery // of the session: QoS 1 until PUBACK, QoS 2 until PUBREL
	lanes    lanes.Lanes          // by topic
	inFlight int                  // not done
	bytes    int                  // of those in flight
	draining bool                 // what comes now stays with the server
	freed    chan struct{}        // wakes the reader; holds one
	workers  sync.WaitGroup

	handover source.Handover
}

// delivery is one message on its way.
type delivery struct {
	*message // nil once it is done
	id       uint16
	qos      byte
	size     int
	digest   uint64
	done     bool
}

func newInbox(r *run, ctx, work context.Context) *inbox {
	return &inbox{
		event: r.event, wanted: r.wanted, log: r.log, group: r.mqtt.Group != "", ctx: ctx, work: work,
		held: map[uint16]*delivery{}, freed: make(chan struct{}, 1),
		handover: source.Handover{Next: r.next, Log: r.log},
	}
}

// attach begins with what comes over conn. A session that is new has nothing of what was received before.
func (b *inbox) attach(conn *connection, sessionPresent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn, b.queue = conn, nil
	if !sessionPresent {
		clear(b.held)
	}
}

// detach ends acknowledgements: the server sends again what it has not got one for.
func (b *inbox) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn, b.queue = nil, nil
}

// drain takes no more messages and returns when those that were taken are done or given up.
func (b *inbox) drain() {
	b.mu.Lock()
	b.draining = true
	b.mu.Unlock()
	b.workers.Wait()
}

// idle tells whether all that was received is done, and so acknowledged.
func (b *inbox) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inFlight == 0
}

// room waits until another message may be read.
func (b *inbox) room(ctx context.Context) {
	for {
		b.mu.Lock()
		ok := b.inFlight < maxInFlight && b.bytes < maxBytes
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-b.freed:
		}
	}
}

var seed = maphash.MakeSeed()

// size is what m takes in memory, as far as its sender says how much.
func (m *message) size() int {
	n := len(m.payload) + len(m.topic) + len(m.contentType) + len(m.responseTopic) + len(m.correlationData)
	for _, p := range m.properties {
		n += len(p.name) + len(p.value)
	}
	return n
}

func (m *message) digest() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_ = h.WriteByte(m.qos)
	_, _ = h.WriteString(m.topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(m.payload)
	return h.Sum64()
}

// receive takes m over. It does not wait for its handler.
func (b *inbox) receive(m *message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining || b.ctx.Err() != nil {
		return
	}
	d := &delivery{message: m, id: m.id, qos: m.qos, size: m.size()}
	if m.qos > 0 {
		d.digest = m.digest()
		// Without the flag it is another message under an identifier that we thought was taken: the server has forgotten something.
		if known := b.held[m.id]; known != nil && m.duplicate && known.digest == d.digest && known.qos == m.qos {
			if !slices.Contains(b.queue, known) {
				b.queue = append(b.queue, known)
			}
			b.acknowledge()
			return
		}
		b.held[m.id] = d
		b.queue = append(b.queue, d)
	}
	if !b.wanted(m) {
		d.done, d.message = true, nil
		b.acknowledge()
		return
	}
	b.begin(d)
}

// release ends what the server, after our PUBREC, will not send again.
func (b *inbox) release(id uint16) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.held[id]; d != nil && d.qos == 2 && d.done {
		delete(b.held, id)
	}
	return b.conn.send(pubcomp{id})
}

func (b *inbox) begin(d *delivery) {
	b.inFlight++
	b.bytes += d.size
	if b.group {
		b.workers.Go(func() { b.handle(d) })
		return
	}
	b.lanes.Add(d.topic, func() bool { return b.handle(d) }, b.workers.Go)
}

// handle hands a message on until it is taken or refused for good. It is false when the source was stopped before.
func (b *inbox) handle(d *delivery) bool {
	e := b.event(d.message)
	done, refusal := b.handover.Handle(b.ctx, b.work, e)
	// What nobody will ever take must not stop what is behind it: a broker sends only so much that is not acknowledged, and wants
	// acknowledgements in its order.
	if refusal != nil {
		b.log.Errorw("event is refused for good, and no dead letter has all of it: the message is lost",
			"id", event.Short(e.ID()), "messageTopic", d.topic, "bytes", d.size, "error", refusal)
	}
	if done {
		b.finish(d)
	}
	return done
}

func (b *inbox) finish(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d.done, d.message = true, nil
	b.inFlight--
	b.bytes -= d.size
	b.acknowledge()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// acknowledge sends what is due. That a packet does not arrive is seen by whoever reads from the connection.
func (b *inbox) acknowledge() {
	var due []any
	for len(b.queue) > 0 && b.queue[0].done {
		d := b.queue[0]
		b.queue = b.queue[1:]
		if d.qos == 2 {
			due = append(due, pubrec{d.id})
			continue
		}
		// The server may use the identifier for another message now, so that it tells nothing any more.
		if b.held[d.id] == d {
			delete(b.held, d.id)
		}
		due = append(due, puback{d.id})
	}
	if len(due) > 0 {
		_ = b.conn.send(due...)
	}
}
