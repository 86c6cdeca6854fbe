package kafkaclient

import (
	"errors"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
)

// refreshing is a client whose brokers answer with an error.
type refreshing struct {
	sarama.Client
	err error
}

func (r refreshing) RefreshMetadata(...string) error { return r.err }

func TestOnlyThatThereIsNoLeaderIsHidden(t *testing.T) {
	unled, unknown := fmt.Errorf("a: %w", sarama.ErrLeaderNotAvailable), fmt.Errorf("b: %w", sarama.ErrUnknownTopicOrPartition)
	for name, tt := range map[string]struct {
		err    error
		hidden bool
	}{
		"nothing is wrong":               {nil, true},
		"no leader":                      {errors.Join(unled), true},
		"no leader in two topics":        {errors.Join(unled, unled), true},
		"another topic is not there":     {errors.Join(unled, unknown), false},
		"no topic is there":              {unknown, false},
		"the brokers are away":           {sarama.Wrap(sarama.ErrOutOfBrokers, errors.New("EOF")), false},
		"they are away without a reason": {sarama.ErrOutOfBrokers, false},
	} {
		if got := (Leaderless{refreshing{err: tt.err}}).RefreshMetadata("a", "b"); (got == nil) != tt.hidden || got != nil && got != tt.err {
			t.Errorf("%s: RefreshMetadata() = %v, want it hidden: %t", name, got, tt.hidden)
		}
	}
}
