package standalone

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/standalone/embedded"
)

// Addresses say where to connect instead of an address that the YAML, or a broker, names. The zero value changes nothing.
type Addresses struct {
	to map[string]string
}

// ParseAddresses reads HOST:PORT=HOST:PORT.
func ParseAddresses(mappings []string) (*Addresses, error) {
	a := &Addresses{to: map[string]string{}}
	for _, m := range mappings {
		from, to, ok := strings.Cut(m, "=")
		if !ok || !isHostPort(from) || !isHostPort(to) {
			return nil, fmt.Errorf("address %q: want HOST:PORT=HOST:PORT, for example kafka.kafka:9092=127.0.0.1:19092", m)
		}
		from = embedded.Normal(from)
		if _, ok := a.to[from]; ok {
			return nil, fmt.Errorf("address %s: is given twice", from)
		}
		a.to[from] = to
	}
	return a, nil
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, notNumber := strconv.ParseUint(port, 10, 16)
	return err == nil && host != "" && notNumber == nil && n > 0
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dial connects to where address is mapped.
func (a *Addresses) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if to, ok := a.to[embedded.Normal(address)]; ok {
		address = to
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// through connects to the embedded server that stands for the address, if there is one, and otherwise as dial does.
func (a *Addresses) through(servers *embedded.Servers) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if to, ok := servers.Address(address); ok {
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}
		return a.dial(ctx, network, address)
	}
}

// unused returns the mapped addresses that are not among the named ones, sorted.
func (a *Addresses) unused(named []string) []string {
	var unused []string
	for from := range a.to {
		if !slices.Contains(named, from) {
			unused = append(unused, from)
		}
	}
	slices.Sort(unused)
	return unused
}

// named are the addresses that a plan connects to, as far as the plan knows.
func named(p *plan.Plan) []string {
	var all []string
	// What Needs cannot read, the gateway reports.
	needs, _ := embedded.Needs(p)
	for _, n := range needs {
		all = append(all, n.Addresses...)
	}
	target := func(t *plan.Target) {
		if t == nil || t.URL == "" {
			return
		}
		u, err := url.Parse(t.URL)
		if err != nil {
			return
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		all = append(all, embedded.Normal(net.JoinHostPort(u.Hostname(), port)))
	}
	for _, s := range p.Sources {
		target(s.Sink)
		target(s.DeadLetter)
	}
	for _, s := range p.Subscribers {
		target(s.Sink)
		target(s.DeadLetter)
	}
	return all
}
