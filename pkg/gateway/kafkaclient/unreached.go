package kafkaclient

import (
	"errors"
	"net"
)

// unreached says what to do about brokers that nobody could connect to, if that is what err is about.
func unreached(err error) string {
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return ": start the brokers, or correct brokers or what they advertise"
	}
	return ""
}
