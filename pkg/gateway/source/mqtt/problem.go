package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

// problem is one that somebody has to cure: what is wrong, and how to cure it.
type problem struct {
	text string
	wait time.Duration // before another attempt, at least
}

func (p *problem) Error() string { return p.text }

func (r *run) problem(format string, args ...any) *problem {
	return &problem{text: "mqtt " + r.server.address + ": " + fmt.Sprintf(format, args...)}
}

// pause is how long err wants us to wait.
func pause(err error) time.Duration {
	var p *problem
	if errors.As(err, &p) {
		return p.wait
	}
	return 0
}

// because is a server's own words, if it has any.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf(" (it says: %.256q)", reason)
}

// refusedConnect is what a server's answer to CONNECT means.
func (r *run) refusedConnect(a connack) error {
	why := because(a.reason)
	switch a.code {
	case unsupportedVersion:
		if r.mqtt.Version == 3 {
			return r.problem(`the server does not speak MQTT 3.1.1%s: set version: "5"`, why)
		}
		return r.problem(`the server does not speak MQTT 5%s: set version: "3.1.1"`, why)
	case clientIDRefused:
		return r.problem("the server refuses the client id %q%s: set another consumerID", r.clientID, why)
	case badCredentials, notAuthorized:
		if r.server.username == "" {
			return r.problem("the server lets nobody in without a user name and password%s: set username and passwordFrom, or allow the client id %q there", why, r.clientID)
		}
		return r.problem("the server refuses the user name %q or its password%s: correct username and passwordFrom, or allow the user there", r.server.username, why)
	case banned:
		return r.problem("the server has banned this client%s: lift that there", why)
	}
	return fmt.Errorf("the server refuses the connection with reason 0x%02x%s", a.code, why)
}

// granted returns an error unless the subscription is what was asked for.
func (r *run) granted(a suback) error {
	why := because(a.reason)
	switch {
	case a.code == notAuthorized || a.code == unspecified && r.mqtt.Version == 3:
		return r.problem("the server does not let user %q subscribe to %s%s: allow it there, or correct topic", r.server.username, r.filter, why)
	case a.code == filterRefused:
		return r.problem("the server refuses the topic filter %s%s: correct topic", r.filter, why)
	case a.code == noSharing:
		return r.problem("the server does not share subscriptions%s: remove group", why)
	case a.code == noWildcards:
		return r.problem("the server takes no wildcards%s: set a topic without + and #", why)
	case a.code >= unspecified:
		return r.problem("the server refuses the subscription to %s with reason 0x%02x%s", r.filter, a.code, why)
	case a.code == 0 && r.mqtt.QOS > 0:
		return r.problem("the server grants only QoS 0 for %s, at which messages are lost: allow more there, or accept that with qos: 0", r.filter)
	case a.code < r.mqtt.QOS:
		r.sayOnce("qos", "the broker grants a lower quality of service than was asked for", "qos", a.code, "wanted", r.mqtt.QOS)
	}
	return nil
}

// disconnected is why a server of version 5 ends a connection.
func (r *run) disconnected(d disconnect) error {
	why := because(d.reason)
	switch d.code {
	case sessionTakenOver:
		p := r.problem("another client connected with the client id %q%s: give each its own consumerID, or set group to share the messages", r.clientID, why)
		p.wait = takenOverWait
		return p
	case notAuthorized:
		return r.problem("the server no longer lets this client in%s: correct username and passwordFrom, or allow it there", why)
	}
	return fmt.Errorf("the server ended the connection with reason 0x%02x%s", d.code, why)
}

// peer is who a connection leads to.
func (r *run) peer() peer.Peer {
	p := peer.Peer{
		Name: "the server", Kind: "an MQTT server", Address: "correct url", TLS: r.mqtt.TLS,
		Authorities: "caCertFrom", Certificate: "clientCertFrom and clientKeyFrom",
		Host: "use a name in url that it holds", Plain: "use its port for TLS in url, or tcp:// and no certificates", Secure: "use ssl:// in url",
	}
	if r.server.websocket != "" {
		p.Plain, p.Secure = strings.Replace(p.Plain, "tcp", "ws", 1), "use wss:// in url"
	}
	if r.server.tls != nil && p.TLS == nil {
		p.TLS = &plan.TLS{}
	}
	return p
}

// explain makes a sentence of what connecting or receiving ended with.
func (r *run) explain(err error) error {
	var known *problem
	var oversize *oversizeError
	var other *stranger
	var missing *noWebsocket
	var silent *hungUp
	untrusted := r.peer().Untrusted(err)
	switch {
	case errors.As(err, &known):
		return known
	case untrusted != nil:
		return r.problem("%v", untrusted)
	case errors.As(err, &oversize):
		return r.problem("the server sends a message of %d bytes, of which %d are read at most: limit messages there (message_size_limit of mosquitto), and take this one out of the session",
			oversize.bytes, maxPacket)
	case errors.As(err, &other):
		return r.problem("%v", r.peer().Stranger(other.answer))
	case errors.As(err, &missing):
		return r.problem("%v: correct url", missing)
	case errors.As(err, &silent) && peer.HungUp(err):
		var old []string
		if r.mqtt.Version != 3 {
			old = append(old, `if it does not speak MQTT 5, set version: "3.1.1"`)
		}
		return r.problem("%v", r.peer().HangsUp(old...))
	}
	return fmt.Errorf("mqtt %s: %w", r.server.address, err)
}
