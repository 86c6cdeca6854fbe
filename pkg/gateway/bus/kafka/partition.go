package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	// again is after how long a message that failed is handed over again.
	again = time.Second
	// settleTime bounds how long the others wait, when members come or go, for messages that are about to be done. Who holds one for
	// longer keeps its partition.
	settleTime = 3 * time.Second
)

// place is where a partition is.
type place struct {
	topic string
	id    int32
}

// partition is what a subscription knows of a partition. It outlives sessions: what is held stays held while the brokers are away.
type partition struct {
	place
	s *subscription

	mu       sync.Mutex
	progress progress
	unread   []int64             // open offsets that are to be read again, ascending
	held     map[int64]*delivery // open, and handed over
	failed   map[int64]*delivery // open, and to be handed over again in a moment
	strays   int                 // what is handed over and of another member by now
	mine     bool                // this member had it in its last session
	reading  bool                // what fails is handed over again
	changes  int                 // counts what is to be committed
	again    chan *delivery      // those of failed whose moment has come; has room for all
	idle     chan struct{}       // has room for one; told when nothing is handed over any more
	freed    chan struct{}       // has room for one; told when there may be room in the metadata
}

// delivery is a message that is handed over or will be.
type delivery struct {
	partition *partition
	offset    int64
	message   bus.Message
	size      int64 // of its room
}

func newPartition(s *subscription, at place) *partition {
	return &partition{
		place: at, s: s, held: map[int64]*delivery{}, failed: map[int64]*delivery{},
		again: make(chan *delivery, s.MaxInFlight), idle: make(chan struct{}, 1), freed: make(chan struct{}, 1),
	}
}

// read hands over messages until they end or ctx is done, and then waits a while until they are done.
func (p *partition) read(ctx context.Context, messages <-chan *sarama.ConsumerMessage) {
	p.handOver(ctx, messages)
	p.stopReading()
	if cause := context.Cause(ctx); p.s.ctx.Err() != nil || sharesOut(cause) {
		p.settle()
	}
}

// sharesOut tells whether a session ended, with its commits still to come, because the partitions are shared out anew.
func sharesOut(cause error) bool {
	return errors.Is(cause, sarama.ErrRebalanceInProgress) || errors.Is(cause, sarama.ErrSessionPartitionCountChanged)
}

// handOver gives each message a slot, and room for its bytes, before it is handed over. Those that failed have kept theirs, and come in between.
func (p *partition) handOver(ctx context.Context, messages <-chan *sarama.ConsumerMessage) {
	var next *sarama.ConsumerMessage
	roomy := false // there is room for the bytes of next
	defer func() {
		if roomy {
			p.s.Room.Leave(size(next))
		}
	}()
	for {
		source, slots, room := messages, chan<- struct{}(nil), (<-chan struct{})(nil)
		if next != nil {
			source = nil
			if !roomy {
				room = p.s.Room.TryOr(size(next))
				roomy = room == nil
			}
			if roomy && p.hasRoom(next.Offset) {
				slots = p.s.slots
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-room:
		case m, ok := <-source:
			if !ok {
				return
			}
			if p.wants(m.Offset) {
				next = m
			}
		case slots <- struct{}{}:
			if !p.s.hand(ctx, func() *delivery { return p.take(next) }) {
				<-p.s.slots
				p.s.Room.Leave(size(next))
			}
			next, roomy = nil, false
		case d := <-p.again:
			p.s.hand(ctx, func() *delivery { return p.retake(d) })
		case <-p.freed:
		}
	}
}

// size is how many bytes a record holds until it is done.
func size(m *sarama.ConsumerMessage) int64 {
	const overhead = 1 << 10
	return int64(len(m.Value)) + overhead
}

func (p *partition) hasRoom(offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return offset < p.progress.next || p.progress.fits(offset)
}

// wants tells whether the record at an offset, which is higher than those before, is to be handed over. What was to be read again and is
// before it does not exist any more. What is held is opened only: it was handed over before another member had the partition.
func (p *partition) wants(offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.unread) > 0 && p.unread[0] < offset {
		p.progress.done(p.unread[0])
		p.unread = p.unread[1:]
		p.changes++
	}
	if offset < p.progress.next {
		return len(p.unread) > 0 && p.unread[0] == offset
	}
	if p.held[offset] != nil {
		p.progress.reach(offset)
		p.changes++
		return false
	}
	return true
}

// take notes that a message is handed over.
func (p *partition) take(m *sarama.ConsumerMessage) *delivery {
	d := &delivery{partition: p, offset: m.Offset, message: p.message(m), size: size(m)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Offset < p.progress.next {
		p.unread = p.unread[1:]
	} else {
		p.progress.reach(m.Offset)
		p.changes++
	}
	p.held[d.offset] = d
	return d
}

// retake is take for a message that failed. It returns nil if the partition was lost meanwhile.
func (p *partition) retake(d *delivery) *delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed[d.offset] != d {
		return nil
	}
	delete(p.failed, d.offset)
	p.held[d.offset] = d
	return d
}

// resume is called before a session reads the partition. It returns where to begin. What was committed counts, unless it is of this
// subscription: then what is known here is newer. Records before oldest do not exist any more; missed is how many of them were not done.
func (p *partition) resume(c commit, oldest int64) (begin, missed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.signature != p.s.signature(p.topic) {
		p.become(c.progress)
	}
	p.unread = p.unread[:0]
	for _, offset := range p.progress.open {
		switch {
		case p.held[offset] != nil:
		case offset < oldest:
			missed++
		default:
			p.unread = append(p.unread, offset)
		}
	}
	if p.progress.next < oldest {
		missed += oldest - p.progress.next
		p.progress.next = oldest
	}
	p.progress.open = slices.DeleteFunc(p.progress.open, func(offset int64) bool { return offset < oldest && p.held[offset] == nil })
	p.mine, p.reading = true, true
	p.changes++
	if len(p.unread) > 0 {
		return p.unread[0], missed
	}
	return p.progress.next, missed
}

// restart is called when there is nothing at the offset where the partition was to be read: its records are other ones by now.
func (p *partition) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.become(progress{})
	p.unread = nil
	for offset := range p.held {
		delete(p.held, offset)
		p.strays++
	}
}

// become replaces what is known. Held messages that are done by it, or before it, are no longer ours.
func (p *partition) become(new progress) {
	p.progress = new
	for offset := range p.held {
		if offset < new.next && !new.isOpen(offset) {
			delete(p.held, offset)
			p.strays++
		}
	}
}

// lose is called when a session begins: the partition may be somebody else's.
func (p *partition) lose() {
	p.stopReading() // a session may end before it reads
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mine = false
}

// holds tells whether this member must keep the partition.
func (p *partition) holds() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mine && len(p.held) > 0
}

// snapshot returns what is to be committed, with metadata up to a limit, as of which change.
func (p *partition) snapshot(limit int) (offset int64, metadata string, change int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress.offset(), p.progress.metadata(p.s.signature(p.topic), limit), p.changes
}

// message returns what is handed over. Sequence tells apart the partitions of a topic.
func (p *partition) message(m *sarama.ConsumerMessage) bus.Message {
	b := bus.Message{Topic: m.Topic, Stored: m.Timestamp, Sequence: uint64(m.Partition)<<48 | uint64(m.Offset)}
	if b.Event, b.Malformed = decode(m); b.Malformed != nil {
		b.Event = bus.Wrap(b.Topic, b.Sequence, b.Stored, m.Value)
	}
	return b
}

// done is what Done of a message does. It returns false if the message keeps its slot, since it comes again in a moment.
func (p *partition) done(d *delivery, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		if len(p.held)+p.strays == 0 {
			tell(p.idle)
		}
	}()
	if p.held[d.offset] != d {
		p.strays--
		return true
	}
	delete(p.held, d.offset)
	if err == nil {
		p.progress.done(d.offset)
		p.changes++
		tell(p.freed)
		return true
	}
	if !p.reading {
		return true // whoever reads next reads it again
	}
	p.failed[d.offset] = d
	time.AfterFunc(again, func() { p.recall(d) })
	return false
}

func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *partition) recall(d *delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed[d.offset] == d {
		p.again <- d
	}
}

// stopReading makes what failed be read again, by whoever reads next.
func (p *partition) stopReading() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = false
	for _, d := range p.failed {
		<-p.s.slots
		p.s.Room.Leave(d.size)
	}
	clear(p.failed)
	for len(p.again) > 0 {
		<-p.again
	}
}

// settle waits until nothing is handed over, for as long as there is patience.
func (p *partition) settle() {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	for p.busy() {
		select {
		case <-p.idle:
		case <-p.s.over.Done():
			return
		case <-timer.C:
			if p.s.ctx.Err() == nil {
				return
			}
		}
	}
}

func (p *partition) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)+p.strays > 0
}
