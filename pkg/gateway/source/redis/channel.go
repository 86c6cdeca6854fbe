package redis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/event"
)

// What waits while handlers are busy: at most so many messages, with so many bytes.
const (
	maxQueued      = 1024
	maxQueuedBytes = 32 << 20
)

// silence is how long a subscription may be silent before the server is asked whether it is there, and how long that answer may take.
const silence = 5 * time.Second

// channel subscribes to a channel or a pattern of channels. What it is sent waits in a queue, which is handed on even after Run's context
// is done, for Redis sends nothing twice.
type channel struct {
	*run
	subscription *redis.PubSub
	interrupt    func() bool // keeps the end of Run's context from closing the subscription
	queue        chan *redis.Message
	feeder       sync.WaitGroup

	mu    sync.Mutex
	bytes int // in the queue
	lost  int // messages that found the queue full, since it was last said how many
}

var _ reader = (*channel)(nil)

func newChannel(r *run) *channel {
	c := &channel{run: r, queue: make(chan *redis.Message, maxQueued)}
	r.hands.ctx = late(r.hands.ctx, r.hands.work)
	r.tick = 0
	r.dialer.silence = silence
	c.feeder.Go(c.feed)
	return c
}

// late returns a context that is done some time after ctx is.
func late(ctx, work context.Context) context.Context {
	drained, cancel := context.WithCancel(work)
	context.AfterFunc(ctx, func() { time.AfterFunc(drainTimeout, cancel) })
	return drained
}

func (c *channel) open(ctx context.Context) error {
	c.unsubscribe()
	p := c.client.Subscribe(ctx)
	c.subscription = p
	c.interrupt = context.AfterFunc(ctx, func() { _ = p.Close() })
	subscribe := func() error { return p.Subscribe(ctx, c.redis.Channel) }
	if c.redis.Pattern != "" {
		subscribe = func() error { return p.PSubscribe(ctx, c.redis.Pattern) }
	}
	if err := subscribe(); err != nil {
		return err
	}
	answer, err := p.ReceiveTimeout(ctx, silence)
	if err != nil {
		return err
	}
	if _, ok := answer.(*redis.Subscription); !ok {
		return fmt.Errorf("the server answers %v to a subscription", answer)
	}
	c.receiving() // nothing may be published for long
	return nil
}

func (c *channel) unsubscribe() {
	if c.subscription != nil {
		c.interrupt()
		_ = c.subscription.Close()
	}
}

// read queues one message. It waits for all of it as long as the server is there: half a message that was given up would be lost, and the rest
// of it would be taken for something else.
func (c *channel) read(ctx context.Context) error {
	received, err := c.subscription.Receive(ctx)
	if err != nil {
		// The client would subscribe again by itself, and nobody would know that messages were missed.
		c.unsubscribe()
		return err
	}
	if m, ok := received.(*redis.Message); ok {
		c.put(m)
	}
	return nil
}

// put queues m if there is room for it.
func (c *channel) put(m *redis.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) < maxQueued && (c.bytes == 0 || c.bytes+len(m.Payload) <= maxQueuedBytes) {
		c.bytes += len(m.Payload)
		c.queue <- m
		return
	}
	if c.lost++; c.lost == 1 {
		c.log.Warnw("messages are lost: they come faster than they are taken, and the queue is full", "waiting", len(c.queue))
	}
}

// feed hands on what is queued until the queue is closed.
func (c *channel) feed() {
	for m := range c.queue {
		c.got(m)
		e := c.message(m)
		c.hands.take(e, func(done bool, refusal error) {
			if refusal != nil {
				c.log.Errorw("event is refused for good, and no dead letter has all of it: the message is lost",
					"id", event.Short(e.ID()), "bytes", len(e.DataEncoded), "error", refusal)
			}
			if !done {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.lost++
			}
		})
	}
}

// got says how many messages were lost once the queue is empty again, not each time that it has room.
func (c *channel) got(m *redis.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes -= len(m.Payload)
	if len(c.queue) == 0 {
		c.sayLost()
	}
}

func (c *channel) sayLost() {
	if c.lost > 0 {
		c.log.Warnw("messages were lost", "count", c.lost)
		c.lost = 0
	}
}

// leave hands on what is queued, and says how much of it was not taken in time.
func (c *channel) leave(context.Context) {
	c.unsubscribe()
	close(c.queue)
	c.feeder.Wait()
	c.hands.workers.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sayLost()
}

// A subscription has nothing to recover, keep or take over.
func (c *channel) recover(context.Context) error  { return nil }
func (c *channel) keep(context.Context) error     { return nil }
func (c *channel) takeOver(context.Context) error { return nil }
