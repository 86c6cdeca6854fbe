package redis

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/event"
)

// forgetAfter is how many processing timeouts a consumer must have been silent for to be forgotten.
const forgetAfter = 10

// stream reads a stream as a consumer of a group.
//
// A group that does not exist begins with what is added after Run said that it is ready. One that goes away later, alone or with its
// stream, is created again where it was, so that nothing is missed.
type stream struct {
	*run
	position string // the last entry that the group was seen to have been given; empty until it is known
	batch    batch

	mu   sync.Mutex
	held map[string]bool // the entries that this process works on, by id
	acks *acks           // to be sent next, if there are any
	send sync.Mutex      // held while acknowledgements are sent
}

// acks are the ids of entries that are acknowledged with one command.
type acks struct {
	ids  []string
	sent chan struct{} // closed once err is valid
	err  error
}

var _ reader = (*stream)(nil)

func newStream(r *run) *stream { return &stream{run: r, held: map[string]bool{}} }

func (s *stream) open(ctx context.Context) error {
	begin, err := s.begin(ctx)
	if err != nil {
		return err
	}
	err = s.client.XGroupCreateMkStream(ctx, s.redis.Stream, s.redis.ConsumerGroup, begin).Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return err
	}
	if err == nil && s.position != "" {
		s.log.Warnw("the consumer group was gone and is created again", "group", s.redis.ConsumerGroup, "after", begin)
	}
	if s.position != "" {
		return nil
	}
	groups, err := s.client.XInfoGroups(ctx, s.redis.Stream).Result()
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g.Name == s.redis.ConsumerGroup {
			s.position = g.LastDeliveredID
		}
	}
	return nil
}

// begin is after which entry a group begins that does not exist.
func (s *stream) begin(ctx context.Context) (string, error) {
	if s.position == "" {
		return "$", nil
	}
	info, err := s.client.XInfoStream(ctx, s.redis.Stream).Result()
	if redis.HasErrorPrefix(err, "no such key") {
		return "0", nil
	}
	if err != nil {
		return "", err
	}
	if before(info.LastGeneratedID, s.position) {
		return "0", nil // it is another stream
	}
	return s.position, nil
}

// before tells whether the entry id a is before b.
func before(a, b string) bool {
	aTime, aNumber := parseID(a)
	bTime, bNumber := parseID(b)
	return cmp.Or(cmp.Compare(aTime, bTime), cmp.Compare(aNumber, bNumber)) < 0
}

func parseID(id string) (milliseconds, number uint64) {
	t, n, _ := strings.Cut(id, "-")
	milliseconds, _ = strconv.ParseUint(t, 10, 64)
	number, _ = strconv.ParseUint(n, 10, 64)
	return milliseconds, number
}

// recover reads what is pending for this consumer.
func (s *stream) recover(ctx context.Context) error {
	for from := "0"; ctx.Err() == nil; {
		held := s.holding()
		entries, err := s.entries(ctx, from, s.batch.of(maxInFlight), -1)
		if err != nil || len(entries) == 0 {
			return err
		}
		if err := s.handOn(ctx, entries, held); err != nil {
			return err
		}
		from = entries[len(entries)-1].ID
	}
	return nil
}

func (s *stream) read(ctx context.Context) error {
	free, err := s.room(ctx)
	if err != nil || free == 0 {
		return err
	}
	entries, err := s.entries(ctx, ">", s.batch.of(free), s.block())
	if err != nil || len(entries) == 0 {
		return err
	}
	s.position = entries[len(entries)-1].ID
	return s.handOn(ctx, entries, nil)
}

// entries reads as the consumer of the group; a block below zero does not wait.
func (s *stream) entries(ctx context.Context, from string, count int, block time.Duration) ([]redis.XMessage, error) {
	streams, err := s.client.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: s.redis.ConsumerGroup, Consumer: s.consumer(), Streams: []string{s.redis.Stream, from},
		Count: int64(count), Block: block,
	}).Result()
	if err == redis.Nil || len(streams) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		s.batch = 0 // an answer that cannot be read holds up what it has besides
		return nil, err
	}
	entries := streams[0].Messages
	s.batch.saw(len(entries), size(entries))
	return entries, nil
}

func size(entries []redis.XMessage) (bytes int) {
	for _, m := range entries {
		for name, value := range m.Values {
			bytes += len(name)
			if text, ok := value.(string); ok {
				bytes += len(text)
			}
		}
	}
	return bytes
}

// handOn hands on entries that are not among those that were held before they were asked for.
func (s *stream) handOn(ctx context.Context, entries []redis.XMessage, held map[string]bool) error {
	var deleted []string
	for _, m := range entries {
		if held[m.ID] {
			continue
		}
		if len(m.Values) == 0 {
			deleted = append(deleted, m.ID)
			continue
		}
		free, err := s.room(ctx)
		if err != nil || free == 0 {
			return err
		}
		s.hold(m)
	}
	if len(deleted) == 0 {
		return nil
	}
	s.sayDeleted(len(deleted), deleted[0])
	return s.client.XAck(ctx, s.redis.Stream, s.redis.ConsumerGroup, deleted...).Err()
}

func (s *stream) hold(m redis.XMessage) {
	id := m.ID // which is all of m that is needed until the end
	s.mu.Lock()
	s.held[id] = true
	s.mu.Unlock()
	e := s.entry(m)
	s.hands.take(e, func(done bool, refusal error) {
		if refusal != nil {
			s.log.Errorw("event is refused for good, and no dead letter has all of it: the entry is left in the stream",
				"id", event.Short(e.ID()), "entry", id, "bytes", len(e.DataEncoded), "error", refusal)
		}
		if !done || !s.acknowledge(func(ctx context.Context) error { return s.ack(ctx, id) }) {
			return // see leave
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, id)
	})
}

// ack acknowledges an entry, together with all that are to be acknowledged by the time that the command before has been answered.
func (s *stream) ack(ctx context.Context, id string) error {
	s.mu.Lock()
	a := s.acks
	first := a == nil
	if first {
		a = &acks{sent: make(chan struct{})}
		s.acks = a
	}
	a.ids = append(a.ids, id)
	s.mu.Unlock()
	if !first {
		<-a.sent
		return a.err
	}
	s.send.Lock()
	defer s.send.Unlock()
	s.mu.Lock()
	s.acks = nil
	s.mu.Unlock()
	a.err = s.client.XAck(ctx, s.redis.Stream, s.redis.ConsumerGroup, a.ids...).Err()
	close(a.sent)
	return a.err
}

func (s *stream) holding() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.held)
}

// keep makes the entries that are held young again, so that nobody takes them over.
func (s *stream) keep(ctx context.Context) error {
	held := slices.Collect(maps.Keys(s.holding()))
	if len(held) == 0 {
		return nil
	}
	return s.client.XClaimJustID(ctx, &redis.XClaimArgs{
		Stream: s.redis.Stream, Group: s.redis.ConsumerGroup, Consumer: s.consumer(), Messages: held,
	}).Err()
}

// takeOver claims entries by their ids and then reads them like all that is pending for this process: of an entry that was deleted, Redis 6.2
// does not say which one it is when it is asked for the entries themselves.
func (s *stream) takeOver(ctx context.Context) error {
	taken := 0
	for from := "0-0"; ctx.Err() == nil; {
		free := s.hands.free()
		if free == 0 {
			break
		}
		claimed, next, err := s.claim(ctx, from, s.batch.of(free))
		if err != nil {
			return err
		}
		if claimed > 0 {
			if err := s.recover(ctx); err != nil {
				return err
			}
		}
		taken += claimed
		if from = next; from == "0-0" {
			break
		}
	}
	if taken > 0 {
		s.log.Infow("entries were taken over that a consumer did not acknowledge in time", "count", taken)
	}
	s.forget(ctx, forgetAfter*s.redis.ProcessingTimeout, "")
	return nil
}

// claim makes up to count entries, from an id on, pending for this process that were not acknowledged in time. next is where to go on.
func (s *stream) claim(ctx context.Context, from string, count int) (claimed int, next string, err error) {
	// Not the client's XAUTOCLAIM, which does not tell what was deleted.
	cmd := redis.NewSliceCmd(ctx, "xautoclaim", s.redis.Stream, s.redis.ConsumerGroup, s.consumer(),
		s.redis.ProcessingTimeout.Milliseconds(), from, "count", count, "justid")
	if err := s.client.Process(ctx, cmd); err != nil {
		return 0, "", err
	}
	answer := cmd.Val()
	if len(answer) < 2 {
		return 0, "", fmt.Errorf("the server answers %v to XAUTOCLAIM", answer)
	}
	if len(answer) > 2 {
		if deleted, _ := answer[2].([]any); len(deleted) > 0 { // Redis 7 has acknowledged them by itself
			s.sayDeleted(len(deleted), deleted[0])
		}
	}
	ids, _ := answer[1].([]any)
	next, _ = answer[0].(string)
	return len(ids), cmp.Or(next, "0-0"), nil
}

func (s *stream) sayDeleted(count int, first any) {
	s.log.Warnw("entries were deleted from the stream before they were taken", "count", count, "first", first)
}

// forgetConsumers removes the consumers that hold nothing and are silent or named. It is a script, since with what a consumer is given
// in between its pending entries would be removed too.
var forgetConsumers = redis.NewScript(`
for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local f = {}
  for i = 1, #c, 2 do f[c[i]] = c[i+1] end
  if f.pending == 0 and (f.idle >= tonumber(ARGV[2]) or f.name == ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], f.name)
  end
end
return 0`)

// forget removes the names of consumers, or pods' names would pile up. A user who may not run scripts does without.
func (s *stream) forget(ctx context.Context, silent time.Duration, name string) {
	err := forgetConsumers.Run(ctx, s.client, []string{s.redis.Stream}, s.redis.ConsumerGroup, silent.Milliseconds(), name).Err()
	if err != nil && ctx.Err() == nil {
		s.log.Debugw("names of consumers are not forgotten", "error", s.redact(err.Error()))
	}
}

// leave makes what is still pending old, so that others take it over at once, or else forgets the consumer.
func (s *stream) leave(ctx context.Context) {
	s.hands.workers.Wait()
	if s.position == "" {
		return // never connected
	}
	if err := s.giveBack(ctx); err != nil {
		s.log.Debugw("entries that were not taken wait for the processing timeout", "error", s.redact(err.Error()))
		return
	}
	s.forget(ctx, math.MaxInt64, s.consumer())
}

// giveBack takes in what was read and never begun too.
func (s *stream) giveBack(ctx context.Context) error {
	for from := "-"; ; {
		pending, err := s.client.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: s.redis.Stream, Group: s.redis.ConsumerGroup, Consumer: s.consumer(), Start: from, End: "+", Count: maxInFlight,
		}).Result()
		if err != nil || len(pending) == 0 {
			return err
		}
		args := []any{"XCLAIM", s.redis.Stream, s.redis.ConsumerGroup, s.consumer(), 0}
		for _, p := range pending {
			args = append(args, p.ID)
			from = "(" + p.ID
		}
		args = append(args, "IDLE", s.redis.ProcessingTimeout.Milliseconds(), "JUSTID")
		if err := s.client.Do(ctx, args...).Err(); err != nil && err != redis.Nil {
			return err
		}
	}
}
