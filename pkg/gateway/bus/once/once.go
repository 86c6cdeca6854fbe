// Package once recognises events that were published twice, for buses whose brokers do not.
package once

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	// window is how far apart two publications of one event may be stored to be duplicates. JetStream's is as long.
	window = 2 * time.Minute
	// remembered is how many events are remembered, the latest of all topics: about 10 MiB.
	remembered = 1 << 17
)

// Bus is a bus whose subscriptions get an event of a topic (its source, id and kind) once, however often it was published within two minutes.
//
// Which publication counts is the one that this process received first, by any subscription: it stays on the bus until it is Done, so that
// the others can be acknowledged as soon as they come. A publication that comes again, since the broker sends it again, is not another one.
// What a process remembers ends with it, and is no other's: duplicates that two processes of one subscription receive are not recognised. So a bus that shares
// out partitions puts all publications of an event on one, while that has a leader.
type Bus struct {
	bus.Bus
	recent *recent
}

// New returns a Bus over b.
func New(b bus.Bus) *Bus { return &Bus{Bus: b, recent: newRecent(remembered)} }

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(ctx context.Context, s bus.Subscription, receive func(*bus.Message)) error {
	log := logging.FromContext(ctx)
	return b.Bus.Subscribe(ctx, s, func(m *bus.Message) {
		if m.Malformed == nil && b.recent.isRepeat(m) {
			log.Debugw("the event was published before, and is not delivered again", "topic", m.Topic, "id", event.Short(m.Event.ID()), "sequence", m.Sequence)
			m.Done(nil)
			return
		}
		receive(m)
	})
}

// key is two hashes of what makes events the same, so that others are not mistaken for them.
type key [2]uint64

// publication is where and when an event was stored.
type publication struct {
	key
	sequence uint64
	stored   time.Time
}

// recent are the last publications, one of each event.
type recent struct {
	seeds [2]maphash.Seed
	size  int

	mu    sync.Mutex
	order []publication  // a ring once it has size
	next  int            // the oldest, then
	index map[key]uint32 // into order
}

func newRecent(size int) *recent {
	return &recent{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, size: size, index: map[key]uint32{}}
}

// isRepeat tells whether m is another publication of an event that was received before. If it is not, it is remembered.
func (r *recent) isRepeat(m *bus.Message) bool {
	p := publication{key: r.key(m), sequence: m.Sequence, stored: m.Stored}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, ok := r.index[p.key]; ok {
		if was := r.order[i]; was.sequence != p.sequence && was.stored.Sub(p.stored).Abs() < window {
			return true
		}
		r.order[i] = p
		return false
	}
	if len(r.order) < r.size {
		r.index[p.key] = uint32(len(r.order))
		r.order = append(r.order, p)
		return false
	}
	delete(r.index, r.order[r.next].key)
	r.index[p.key] = uint32(r.next)
	r.order[r.next] = p
	r.next = (r.next + 1) % r.size
	return false
}

func (r *recent) key(m *bus.Message) key {
	kind, _ := m.Event.Extensions()[event.KindExtension].(string)
	buf := make([]byte, 0, 256)
	for _, s := range [...]string{m.Topic, kind, m.Event.Source(), m.Event.ID()} {
		buf = binary.AppendUvarint(buf, uint64(len(s))) // so that no two lists of parts are one text
		buf = append(buf, s...)
	}
	return key{maphash.Bytes(r.seeds[0], buf), maphash.Bytes(r.seeds[1], buf)}
}
