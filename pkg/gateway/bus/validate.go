package bus

import (
	"errors"
	"fmt"
	"time"
)

// What a Subscription means by zero.
const (
	DefaultMaxInFlight = 256
	DefaultGrace       = 10 * time.Second
)

const maxName = 200

// Validate returns an error if no broker could serve s.
func (s Subscription) Validate() error {
	if s.Name == "" {
		return errors.New("subscription without a name")
	}
	if len(s.Name) > maxName {
		return fmt.Errorf("subscription %.40s...: name has %d characters, want at most %d", s.Name, len(s.Name), maxName)
	}
	for _, c := range s.Name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return fmt.Errorf("subscription %q: %q in its name, want letters, digits, '-' and '_'", s.Name, c)
		}
	}
	if len(s.Topics) == 0 {
		return fmt.Errorf("subscription %s: no topics", s.Name)
	}
	for _, topic := range s.Topics {
		if topic == "" {
			return fmt.Errorf("subscription %s: empty topic", s.Name)
		}
	}
	return nil
}
