package embedded

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/openfunction/events/pkg/plan"
)

// The kinds of server.
const (
	Kafka         = "kafka"
	NATSStreaming = "natsStreaming"
	JetStream     = "jetStream"
	Redis         = "redis"
	MQTT          = "mqtt"
)

const natsPort = "4222"

// Need is a broker that a plan wants to reach under any of some addresses.
type Need struct {
	Kind string
	// Owner names the object that wants it, for people.
	Owner string
	// Addresses are host:port, normal (see Normal), at least one.
	Addresses []string
	// ClusterID of a NATS Streaming server.
	ClusterID string
	// Topics of a Kafka cluster that shall exist from the start, and how many brokers it has; zero means one.
	Topics  []string
	Brokers int
	// Mechanism, Username, Password and Token are what clients show.
	Mechanism, Username, Password, Token string
	// Sentinel, when set, wants Redis Sentinels at the addresses, which know a server.
	Sentinel *Sentinel
	// Elsewhere says that no server here can stand for it: it is reached by TLS, for which we have no certificate, a websocket, or with tokens of
	// an issuer.
	Elsewhere bool
}

// Sentinel is what clients ask a Redis Sentinel for, and what they show it.
type Sentinel struct{ Master, Username, Password string }

// identity is what two needs must have in common to share a server.
func (n Need) identity() string {
	parts := []string{n.ClusterID, n.Mechanism, n.Username, n.Password, n.Token}
	if n.Sentinel != nil {
		parts = append(parts, n.Sentinel.Master, n.Sentinel.Username, n.Sentinel.Password)
	}
	return strings.Join(parts, "\x00")
}

// against says why no embedded server could be for both, or is nil.
func (n Need) against(m Need) error {
	different := ""
	switch {
	case n.Kind != m.Kind:
		different = fmt.Sprintf("a %s and a %s server", m.Kind, n.Kind)
	case n.ClusterID != m.ClusterID:
		different = "two cluster ids"
	case n.identity() != m.identity():
		different = "two sets of credentials"
	default:
		return nil
	}
	return fmt.Errorf("address %s: %s and %s want %s there, and an embedded server has one: change one of them, or start a server there yourself",
		n.Addresses[0], m.Owner, n.Owner, different)
}

// Normal returns a host:port in the form in which addresses are compared.
func Normal(address string) string {
	return strings.ToLower(strings.TrimSpace(address))
}

// Needs returns the brokers that p names, in the plan's order.
func Needs(p *plan.Plan) ([]Need, error) {
	var needs []Need
	for _, b := range p.Buses {
		switch {
		case b.NATSStreaming != nil:
			addresses, err := natsAddresses(b.NATSStreaming.URL)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", b.Name, err)
			}
			needs = append(needs, Need{
				Kind: NATSStreaming, Owner: b.Name, Addresses: addresses, ClusterID: b.NATSStreaming.ClusterID,
				Elsewhere: secured(b.NATSStreaming.URL, b.NATSStreaming.TLS),
			})
		case b.JetStream != nil:
			addresses, err := natsAddresses(b.JetStream.URL)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", b.Name, err)
			}
			j := b.JetStream
			needs = append(needs, Need{
				Kind: JetStream, Owner: b.Name, Addresses: addresses, Username: j.Username, Password: j.Password, Token: j.Token,
				Elsewhere: secured(j.URL, j.TLS),
			})
		case b.Kafka != nil:
			n := kafkaNeed(b.Kafka.KafkaAccess)
			n.Owner = b.Name
			n.Brokers = int(b.Kafka.ReplicationFactor)
			needs = append(needs, n)
		}
	}
	for _, s := range p.Sources {
		var n Need
		switch {
		case s.Kafka != nil:
			n = kafkaNeed(s.Kafka.KafkaAccess, s.Kafka.Topic)
		case s.Redis != nil:
			n = redisNeed(s.Redis)
		case s.MQTT != nil:
			n = mqttNeed(s.MQTT)
		}
		if len(n.Addresses) > 0 {
			n.Owner = fmt.Sprintf("%s event %s", s.Owner(), s.Event)
			needs = append(needs, n)
		}
	}
	return needs, nil
}

func kafkaNeed(k plan.KafkaAccess, topics ...string) Need {
	n := Need{Kind: Kafka, Topics: topics, Mechanism: k.SASLMechanism, Username: k.Username, Password: k.Password, Elsewhere: k.TLS != nil || k.OAuth != nil}
	for _, b := range k.Brokers {
		n.Addresses = append(n.Addresses, Normal(b))
	}
	return n
}

func redisNeed(r *plan.Redis) Need {
	n := Need{Kind: Redis, Username: r.Username, Password: r.Password, Elsewhere: r.TLS != nil}
	for _, a := range r.Addresses {
		n.Addresses = append(n.Addresses, Normal(a))
	}
	if r.MasterName != "" {
		n.Sentinel = &Sentinel{Master: r.MasterName, Username: r.SentinelUsername, Password: r.SentinelPassword}
	}
	return n
}

// secured tells whether servers of NATS are reached by TLS.
func secured(urls string, t *plan.TLS) bool { return t != nil || strings.Contains(urls, "tls://") }

func natsAddresses(urls string) ([]string, error) {
	var addresses []string
	for raw := range strings.SplitSeq(urls, ",") {
		raw = strings.TrimSpace(raw)
		if raw == "" {
			continue
		}
		if !strings.Contains(raw, "://") {
			raw = "nats://" + raw
		}
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("server address %q: want nats://host:port", plan.HideURL(raw))
		}
		port := u.Port()
		if port == "" {
			port = natsPort
		}
		addresses = append(addresses, Normal(net.JoinHostPort(u.Hostname(), port)))
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("server address %q: want nats://host:port", urls)
	}
	return addresses, nil
}

// wanted is a need, or several that share an address. With a conflict only a real server can meet it.
type wanted struct {
	Need
	conflict error
}

// merge joins the needs that share an address, so that each address appears once.
func merge(needs []Need) []wanted {
	var merged []wanted
	for _, need := range needs {
		n := wanted{Need: need}
		n.Addresses, n.Topics = slices.Clone(n.Addresses), slices.Clone(n.Topics)
		rest := merged[:0:0]
		for _, m := range merged {
			if !overlap(m.Addresses, n.Addresses) {
				rest = append(rest, m)
				continue
			}
			n.conflict = cmp.Or(n.conflict, m.conflict, n.against(m.Need))
			n.Owner = m.Owner
			n.Addresses, n.Topics, n.Brokers = append(m.Addresses, n.Addresses...), append(m.Topics, n.Topics...), max(m.Brokers, n.Brokers)
		}
		n.Addresses, n.Topics = unique(n.Addresses), unique(n.Topics)
		merged = append(rest, n)
	}
	return merged
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// unique drops repetitions and keeps the order: the first address names the server's folder.
func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
