package kafka

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/eapache/go-resiliency/breaker"
)

// recent is how long a failure may be the reason of the next one, and what need not go to its partition avoids that. A source tries again sooner.
const recent = time.Minute

// failures knows why a producer's last publication on each partition failed: after three times without an answer who leads it
// sarama makes no attempt for ten seconds, and says only that.
type failures struct {
	any atomic.Bool // there are some: what succeeds need look at no more than this

	mu   sync.Mutex
	last map[place]failure
}

type failure struct {
	err error
	at  time.Time
}

// failed is called with each failure, in sarama's order, and returns it or, if no attempt was made, why those before it failed.
func (f *failures) failed(at place, err error, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, breaker.ErrBreakerOpen) {
		if last, ok := f.last[at]; ok && now.Sub(last.at) < recent {
			return last.err
		}
		return fmt.Errorf("the brokers did not say who leads the partition, and will be asked again within ten seconds: %w", err)
	}
	if isOfOne(err) {
		return err
	}
	if f.last == nil {
		f.last = map[place]failure{}
	}
	f.last[at] = failure{err, now}
	f.any.Store(true)
	return err
}

// isOfOne tells whether a failure says nothing of the next event: that one may be smaller, have a key, or find the topic made again.
func isOfOne(err error) bool {
	return tooLarge(err) || errors.Is(err, sarama.ErrInvalidRecord) || errors.Is(err, sarama.ErrUnknownTopicOrPartition)
}

// failing tells whether the last publication on a partition failed lately.
func (f *failures) failing(at place, now time.Time) bool {
	if !f.any.Load() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	last, ok := f.last[at]
	return ok && now.Sub(last.at) < recent
}

// succeeded is called after each success.
func (f *failures) succeeded(at place) {
	if !f.any.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.last, at)
	f.any.Store(len(f.last) > 0)
}
