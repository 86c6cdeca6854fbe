package natsstreaming

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// identity is the client id, of which the server lets one connection at a time live. A connection that does not answer any more,
// such as that of a killed process, is replaced by the next with its id.
type identity struct {
	id string
	// topic is true when durable subscriptions belong to the client id, so that another one would leave them behind.
	topic bool
	// refused counts how often the server said, since the last connection, that another client has the id.
	refused int
}

func newIdentity(o Options) identity {
	instance := o.Instance
	if instance == "" {
		instance = rand.Text()
	}
	// Two buses of one process may be one server, so the bus is part of it.
	sum := sha256.Sum256([]byte(instance + "\x00" + o.Name))
	own := hex.EncodeToString(sum[:8])
	switch {
	case o.Config.ClientID == "":
		return identity{id: "openfunction-" + own, topic: !o.Config.Queue}
	case o.Config.Queue:
		return identity{id: o.Config.ClientID}
	}
	// Of several processes with the configured id, whoever came first would get the durable subscriptions of whoever did before.
	return identity{id: o.Config.ClientID + "-" + own, topic: true}
}

// refuse notes that another live client has the id, and tells whether it chose another one.
// The first time may be an earlier attempt that the server still works on. Where durable subscriptions belong to the id, this process
// waits until the other is gone.
func (i *identity) refuse() bool {
	i.refused++
	if i.refused < 2 || i.topic {
		return false
	}
	i.id += "-" + rand.Text()
	i.refused = 0
	return true
}
