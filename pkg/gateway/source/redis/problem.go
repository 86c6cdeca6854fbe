package redis

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/gateway/peer"
)

// groupGone is the problem of a stream or group that was removed while it was read. It is cured at once.
const groupGone = "NOGROUP"

// explain returns the name of a problem, and a sentence with what is wrong, why and what to do. Errors of one name are one problem,
// however their texts differ.
func (r *run) explain(err error) (problem string, sentence error) {
	problem, why := r.reason(err)
	return problem, fmt.Errorf("redis %s: %s", r.where(), r.redact(why))
}

func (r *run) reason(err error) (problem, why string) {
	var reply redis.Error
	var oversize *oversizeError
	var other *strangerError
	p, start := r.peer(), "start the server"
	_, said, sentinels := strings.Cut(err.Error(), noSentinel)
	if sentinels {
		p.Name, p.Kind, start = "a Sentinel", "a Sentinel", "start the Sentinels"
		problem, why = sentinelReason(said)
	} else {
		said = err.Error()
	}
	untrusted := p.Untrusted(err)
	switch {
	case untrusted != nil:
		return named(untrusted)
	case errors.As(err, &other):
		return named(p.Stranger(other.answer))
	case problem != "":
		return problem, why
	case !sentinels && errors.As(err, &reply):
		return r.replyReason(reply.Error())
	case errors.As(err, &oversize) && oversize.what == "a string":
		return "oversize", fmt.Sprintf("the server sends %d bytes at once, of which %d are read at most: %s", oversize.size, maxString, r.shrink())
	}
	said = strings.ReplaceAll(said, "\n", "; ") // several Sentinels, each with its own
	if r.wasRead {
		return "away", said
	}
	var network *net.OpError
	switch {
	case peer.HungUp(err):
		return "away", p.HangsUp().Error() // its reason may not have come through
	case errors.As(err, &network) && network.Op == "dial":
		return "away", said + ": " + start + ", or correct redisHost"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return named(p.Stranger(nil))
	}
	return "away", said
}

// named is a problem whose sentence is always the same.
func named(sentence error) (problem, why string) { return sentence.Error(), sentence.Error() }

// peer is who a connection leads to.
func (r *run) peer() peer.Peer {
	return peer.Peer{
		Name: "the server", Kind: "a Redis server", Address: "correct redisHost", TLS: r.redis.TLS,
		Authorities: "tls.caCertFrom", Certificate: "tls.clientCertFrom and tls.clientKeyFrom",
		Host:  "correct redisHost, set tls.serverName",
		Plain: "leave out enableTLS and tls, or name its port for TLS in redisHost", Secure: "set enableTLS to true",
	}
}

// shrink is what to do about what is too large.
func (s *Source) shrink() string {
	switch way, name := s.what(); way {
	case "list":
		return fmt.Sprintf("take the element out of the list %s, and of those whose keys begin with it, and let producers write smaller ones", name)
	case "stream":
		return fmt.Sprintf("delete the entry from the stream %s (XPENDING and XRANGE show its id), and let producers write smaller ones", name)
	}
	return "the message is lost, let publishers send smaller ones"
}

// replyReason explains an error that the server answered. Its first word names it.
func (s *Source) replyReason(reply string) (problem, why string) {
	reply, _, _ = strings.Cut(reply, ", with args beginning with") // they may be a password
	problem, text, _ := strings.Cut(reply, " ")
	switch {
	case problem == "WRONGPASS":
		return problem, "the server refuses the user name or password (WRONGPASS): correct redisUsername and redisPasswordFrom"
	case problem == "NOAUTH":
		return problem, "the server wants a password (NOAUTH): set redisPasswordFrom"
	case problem == "NOPERM":
		return problem, fmt.Sprintf("%s (NOPERM): grant it with ACL SETUSER", text)
	case problem == "WRONGTYPE":
		way, name := s.what()
		return problem, fmt.Sprintf("the key %s is not a %s (WRONGTYPE): set %[2]s to another one", name, way)
	case problem == "READONLY":
		return problem, "the server is a replica (READONLY): name the one that takes writes in redisHost"
	case problem == "MOVED" || problem == "CROSSSLOT" && !s.redis.Cluster:
		return problem, fmt.Sprintf("the server is one of a cluster (%s): set redisType to cluster", problem)
	case strings.Contains(text, "cluster support disabled"):
		return "no cluster", "the server is not one of a cluster: set redisType to node"
	case strings.HasPrefix(text, "unknown command"):
		return "unknown command", fmt.Sprintf("the server answers %q: Redis 6.2 or later is needed", text)
	case strings.Contains(reply, "DB index is out of range"):
		return "no database", fmt.Sprintf("the server has no database %d: set redisDB to one of its databases, of which 0 is the first", s.redis.DB)
	case problem == "UNBLOCKED":
		return groupGone, reply
	}
	return problem, "the server answers: " + reply
}

// noSentinel begins the client's error that no Sentinel tells where the server is. Why follows, a line for each of them.
const noSentinel = "redis: all sentinels specified in configuration are unreachable: "

// sentinelReason explains what Sentinels answered instead. It has nothing to say about those that did not.
func sentinelReason(said string) (problem, why string) {
	switch {
	case strings.Contains(said, "unknown command"):
		return "no sentinel", "these are not Sentinels: name Sentinels in redisHost, or set failover to false"
	case strings.Contains(said, "WRONGPASS"):
		return "sentinel WRONGPASS", "the Sentinels refuse the user name or password (WRONGPASS): correct sentinelUsername and sentinelPasswordFrom"
	case strings.Contains(said, "NOAUTH"):
		return "sentinel NOAUTH", "the Sentinels want a password (NOAUTH): set sentinelPasswordFrom"
	case strings.Contains(said, redis.Nil.Error()):
		return "no master", "the Sentinels know no server of that name: correct sentinelMasterName"
	}
	return "", ""
}

// redact takes the passwords out of a text, should a server repeat them.
func (s *Source) redact(text string) string {
	for _, secret := range []string{s.redis.Password, s.redis.SentinelPassword} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}
