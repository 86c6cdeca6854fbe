package redis

import (
	"context"
	"errors"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/event"
)

// forgetListAfter is how long a process must have been silent for its name to be forgotten. It is long: a process that merely slept
// puts its name down again before it can have moved much.
const forgetListAfter = 24 * time.Hour

// list takes elements from a list.
//
// An element that is being worked on stands in the list processing. A process puts its name into registry, and keeps a key with a
// lifetime as its sign of life; others move back what they find in the processing list of a name without one. All keys have the same hash
// tag, so that a cluster keeps them on one node.
//
// Elements have no identity: equal ones are counted. A removal whose outcome is not known is not tried again, since it could remove an
// equal element that another handler works on; the element is handed on once more if it is still there.
type list struct {
	*run
	registry   string // names with the time of their last sign of life, in seconds
	processing string
	refused    string // elements that nobody will ever take whole
	batch      batch  // besides the element that is waited for

	mu   sync.Mutex
	held map[string]int // the elements that this process works on
}

var _ reader = (*list)(nil)

func newList(r *run) *list {
	l := &list{run: r, held: map[string]int{}}
	l.registry = l.tagged() + ":processing"
	l.processing = l.processingOf(l.consumer())
	l.refused = l.tagged() + ":refused"
	return l
}

// tagged begins the keys that belong to the list.
func (l *list) tagged() string {
	if strings.Contains(l.redis.List, "{") {
		return l.redis.List
	}
	return "{" + l.redis.List + "}"
}

func (l *list) processingOf(name string) string { return l.tagged() + ":processing:" + name }
func (l *list) aliveOf(name string) string      { return l.tagged() + ":alive:" + name }

func (l *list) open(ctx context.Context) error {
	if err := l.client.LLen(ctx, l.redis.List).Err(); err != nil {
		return err
	}
	return l.signal(ctx)
}

// signal says that this process is alive, for ever if nobody is to take over.
func (l *list) signal(ctx context.Context) error {
	if err := l.client.ZAdd(ctx, l.registry, redis.Z{Score: float64(time.Now().Unix()), Member: l.consumer()}).Err(); err != nil {
		return err
	}
	lifetime := l.redis.ProcessingTimeout
	if l.tick <= 0 {
		lifetime = 0
	}
	return l.client.Set(ctx, l.aliveOf(l.consumer()), 1, lifetime).Err()
}

// recover hands on what is in the processing list beyond what is held.
func (l *list) recover(ctx context.Context) error {
	l.mu.Lock()
	held := maps.Clone(l.held)
	l.mu.Unlock()
	elements, err := l.client.LRange(ctx, l.processing, 0, -1).Result()
	if err != nil {
		return err
	}
	for _, e := range elements {
		if held[e] > 0 {
			held[e]--
			continue
		}
		free, err := l.room(ctx)
		if err != nil || free == 0 {
			return err
		}
		l.hold(e)
	}
	return nil
}

// read waits for one element and takes with it what else is there.
func (l *list) read(ctx context.Context) error {
	free, err := l.room(ctx)
	if err != nil || free == 0 {
		return err
	}
	// Not the client's BLMove, which waits for whole seconds.
	first := redis.NewStringCmd(ctx, "blmove", l.redis.List, l.processing, "LEFT", "RIGHT", l.block().Seconds())
	switch err := l.client.Process(ctx, first); {
	case err == redis.Nil:
		return nil
	case err != nil:
		return err
	}
	l.hold(first.Val())
	if ctx.Err() != nil {
		return nil
	}
	return l.more(ctx, free-1)
}

var errNoAnswer = errors.New("no answer")

// more takes elements without waiting, at most n of them, and the more at once the more there are.
func (l *list) more(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	n = l.batch.of(n)
	moves, err := l.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range n {
			// When the server refuses the connection the client leaves a command as it was: that must not look like an empty element.
			p.LMove(ctx, l.redis.List, l.processing, "LEFT", "RIGHT").SetErr(errNoAnswer)
		}
		return nil
	})
	count, bytes := 0, 0
	for _, m := range moves {
		if m.Err() == nil {
			element := m.(*redis.StringCmd).Val()
			count, bytes = count+1, bytes+len(element)
			l.hold(element)
		}
	}
	if l.batch.saw(count, bytes); err != redis.Nil {
		return err
	}
	l.batch = 0 // there was not that much: begin anew
	return nil
}

func (l *list) hold(element string) {
	l.mu.Lock()
	l.held[element]++
	l.mu.Unlock()
	e := l.element(element)
	l.hands.take(e, func(done bool, refusal error) {
		ack := l.remove
		if refusal != nil {
			l.log.Errorw("event is refused for good, and no dead letter has all of it: the element is moved to another list",
				"id", event.Short(e.ID()), "to", l.refused, "bytes", len(element), "error", refusal)
			ack = l.putAside
		}
		if !done || !l.acknowledge(func(ctx context.Context) error { return ack(ctx, element) }) {
			return // see leave
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[element]--; l.held[element] == 0 {
			delete(l.held, element)
		}
	})
}

// remove takes an element out of the processing list. If it is not known whether that worked, recover shall look.
func (l *list) remove(ctx context.Context, element string) error {
	cmd := redis.NewIntCmd(ctx, "lrem", l.processing, 1, element)
	err := l.client.Process(ctx, once{cmd})
	if err == nil || notExecuted(err) {
		return err
	}
	l.dialer.lost.Add(1)
	return nil
}

// putAside keeps an element that nobody will ever take whole: nothing else would. It may be there twice if the process dies in between.
func (l *list) putAside(ctx context.Context, element string) error {
	if err := l.client.RPush(ctx, l.refused, element).Err(); err != nil {
		return err
	}
	return l.remove(ctx, element)
}

// notExecuted tells whether a command surely did nothing: there was no connection, or the server refused it.
func notExecuted(err error) bool {
	var reply redis.Error
	var dial *net.OpError
	return errors.As(err, &reply) || errors.As(err, &dial) && dial.Op == "dial"
}

// once is a command that the client does not try again.
type once struct{ *redis.IntCmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// keep gives the sign of life. It also looks for elements that nobody here knows of: a read whose connection was lost may have moved one
// after recover had looked.
func (l *list) keep(ctx context.Context) error {
	if err := l.signal(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	held := 0
	for _, n := range l.held {
		held += n
	}
	l.mu.Unlock()
	n, err := l.client.LLen(ctx, l.processing).Result()
	if err == nil && n > int64(held) {
		l.dialer.lost.Add(1)
	}
	return err
}

// takeOver moves back what processes left that are gone.
func (l *list) takeOver(ctx context.Context) error {
	names, err := l.client.ZRangeWithScores(ctx, l.registry, 0, -1).Result()
	if err != nil {
		return err
	}
	for _, z := range names {
		name := z.Member.(string)
		alive, err := l.client.Exists(ctx, l.aliveOf(name)).Result()
		if err != nil {
			return err
		}
		if alive > 0 || name == l.consumer() {
			continue
		}
		n, err := l.giveBack(ctx, name)
		if err != nil {
			return err
		}
		if n > 0 {
			l.log.Infow("elements were taken over from a process that is gone", "count", n, "name", name)
		}
		if time.Since(time.Unix(int64(z.Score), 0)) < forgetListAfter {
			continue
		}
		if err := l.client.ZRem(ctx, l.registry, name).Err(); err != nil {
			return err
		}
	}
	return nil
}

// giveBack moves what is in the processing list of a name to where elements are taken, in its order.
func (l *list) giveBack(ctx context.Context, name string) (n int, err error) {
	for {
		err := l.client.LMove(ctx, l.processingOf(name), l.redis.List, "RIGHT", "LEFT").Err()
		if err == redis.Nil {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n++
	}
}

// leave gives back what is still held and forgets the name.
func (l *list) leave(ctx context.Context) {
	l.hands.workers.Wait()
	if l.state == nothingSaid {
		return // never connected
	}
	_, err := l.giveBack(ctx, l.consumer())
	if err == nil {
		err = l.client.ZRem(ctx, l.registry, l.consumer()).Err()
	}
	if err == nil {
		err = l.client.Del(ctx, l.aliveOf(l.consumer())).Err()
	}
	if err != nil {
		l.log.Debugw("elements that were not taken wait for the processing timeout", "error", l.redact(err.Error()))
	}
}
