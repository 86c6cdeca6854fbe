package mqtt

import (
	"bufio"
	"io"
)

// protocol is a version of MQTT: how the packets below are written and read. What an older version lacks is left out when it is
// written and empty when it is read; reason codes are those of version 5.
type protocol interface {
	write(w io.Writer, packet any) error
	read(r *bufio.Reader) (packet any, err error)
}

type connect struct {
	clientID, username, password string
	clean                        bool
	keepAlive                    uint16 // seconds
	sessionExpiry                uint32 // seconds
	receiveMaximum               uint16
}

type connack struct {
	code           byte
	reason         string
	sessionPresent bool
	keepAlive      uint16 // seconds; zero: as asked for
	sessionExpiry  uint32 // seconds
	noIdentifiers  bool   // the server has no subscription identifiers
}

type subscribe struct {
	id         uint16
	filter     string
	qos        byte
	identifier int // zero: none
}

type suback struct {
	code   byte // the QoS, or a reason from 0x80 on
	reason string
}

type unsubscribe struct {
	id     uint16
	filter string
}

type unsuback struct{ code byte }

type message struct {
	id                uint16 // zero for QoS 0
	qos               byte
	duplicate, retain bool
	topic             string
	payload           []byte

	contentType     string
	responseTopic   string
	correlationData []byte
	identifier      int // of a subscription; zero: none
	properties      []property
}

type property struct{ name, value string }

type (
	puback  struct{ id uint16 } // the end for QoS 1
	pubrec  struct{ id uint16 } // from us, for QoS 2
	pubrel  struct{ id uint16 } // the server's answer: it will not send the message again
	pubcomp struct{ id uint16 } // the end for QoS 2

	pingreq    struct{}
	pingresp   struct{}
	disconnect struct {
		code   byte
		reason string
	}
)

// Reason codes that we say something about.
const (
	unspecified        = 0x80
	unsupportedVersion = 0x84
	clientIDRefused    = 0x85
	badCredentials     = 0x86
	notAuthorized      = 0x87
	unavailable        = 0x88
	banned             = 0x8a
	sessionTakenOver   = 0x8e
	filterRefused      = 0x8f
	noSharing          = 0x9e
	noWildcards        = 0xa2
)
