package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/lanes"
)

const (
	// maxInFlight bounds the records of a partition that are being handled or wait for one with their key.
	maxInFlight = 64
	// maxAhead bounds how far a partition is read beyond its first record that is not done: that is what a crash may repeat.
	maxAhead = 1024
	// drainTimeout bounds how long handlers may go on after the partition was taken away or the source was stopped.
	drainTimeout = 10 * time.Second
)

// partition handles the records of one partition: those of a key in order, all others at once.
//
// Only what is before the first record that is not done gets marked. A record that its handler does not take is tried until it
// does: it holds back its key and the partition's commit, but not the other keys, until maxInFlight or maxAhead is reached. What the
// handler will never take, nor anybody a dead letter with all of it, is done too: nothing would cure it, and the topic still has it.
type partition struct {
	*run
	mark func(offset int64) // everything before offset is done

	mu       sync.Mutex
	window   []*record     // by offset; the first is not done
	inFlight int           // those of window that are not done
	lanes    lanes.Lanes   // by key
	freed    chan struct{} // wakes the reader; holds one
	workers  sync.WaitGroup
}

type record struct {
	offset  int64
	message *sarama.ConsumerMessage // nil once it is done
}

func newPartition(r *run, mark func(int64)) *partition {
	return &partition{run: r, mark: mark, freed: make(chan struct{}, 1)}
}

// read handles messages until they end or ctx is done. Then it begins nothing more, and returns when what was begun has ended.
func (p *partition) read(ctx context.Context, messages <-chan *sarama.ConsumerMessage) {
	ctx, stop := context.WithCancel(ctx)
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	p.feed(ctx, work, messages)
	stop()
	late := time.AfterFunc(drainTimeout, cut)
	defer late.Stop()
	p.workers.Wait()
	for _, r := range p.window { // whoever reads the partition next reads them again
		if r.message != nil {
			p.share.Leave(size(r.message))
		}
	}
}

// size is how many bytes a record holds until it is done.
func size(m *sarama.ConsumerMessage) int64 {
	const overhead = 1 << 10
	return int64(len(m.Value)) + overhead
}

func (p *partition) feed(ctx, work context.Context, messages <-chan *sarama.ConsumerMessage) {
	for p.room(ctx) {
		select {
		case <-ctx.Done():
			return
		case m, ok := <-messages:
			if !ok || !p.share.Wait(size(m), ctx.Done()) {
				return
			}
			p.add(ctx, work, m)
		}
	}
}

// room waits until another record may be taken. It is false when ctx is done.
func (p *partition) room(ctx context.Context) bool {
	for {
		p.mu.Lock()
		ok := p.inFlight < maxInFlight && len(p.window) < maxAhead
		p.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-p.freed:
		}
	}
}

func (p *partition) add(ctx, work context.Context, m *sarama.ConsumerMessage) {
	r := &record{offset: m.Offset, message: m}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window = append(p.window, r)
	p.inFlight++
	if m.Key == nil {
		p.workers.Go(func() { p.handle(ctx, work, r) })
		return
	}
	p.lanes.Add(string(m.Key), func() bool { return p.handle(ctx, work, r) }, p.workers.Go)
}

// handle hands a record on until it is taken or refused for good. It is false when ctx was done before.
func (p *partition) handle(ctx, work context.Context, r *record) bool {
	if ctx.Err() != nil {
		return false
	}
	e := p.event(r.message, p.topicID)
	done, refusal := p.handover.Handle(ctx, work, e)
	if refusal != nil {
		p.log.Errorw("event is refused for good, and no dead letter has all of it: the record is left behind",
			"id", event.Short(e.ID()), "partition", r.message.Partition, "offset", r.offset, "bytes", len(r.message.Value), "error", refusal)
	}
	if done {
		p.done(r)
	}
	return done
}

func (p *partition) done(r *record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.share.Leave(size(r.message))
	r.message = nil
	p.inFlight--
	n := 0
	for n < len(p.window) && p.window[n].message == nil {
		n++
	}
	if n > 0 {
		p.mark(p.window[n-1].offset + 1)
		clear(p.window[:n])
		p.window = p.window[n:]
	}
	select {
	case p.freed <- struct{}{}:
	default:
	}
}
