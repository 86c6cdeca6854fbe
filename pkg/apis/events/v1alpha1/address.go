package v1alpha1

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ParseBrokers splits a comma-separated list of host:port. The error of one that cannot be has an example with port.
func ParseBrokers(list, port string) ([]string, error) {
	if strings.TrimSpace(list) == "" {
		return nil, errors.New("is empty: write host:port, several separated by commas")
	}
	var brokers []string
	for broker := range strings.SplitSeq(list, ",") {
		broker = strings.TrimSpace(broker)
		if err := checkHostPort(broker, port); err != nil {
			return nil, err
		}
		brokers = append(brokers, broker)
	}
	return brokers, nil
}

// checkHostPort returns nil for host:port. The usual port is for the example of its error.
func checkHostPort(address, usual string) error {
	if address == "" {
		return errors.New("holds an empty address: write host:port, several separated by single commas")
	}
	if scheme, _, ok := strings.Cut(address, "://"); ok {
		return fmt.Errorf("%q begins with a scheme: write host:port without %s://", withoutSecrets(address), scheme)
	}
	host, port, err := net.SplitHostPort(address)
	if strings.ContainsAny(address, "@?") {
		return fmt.Errorf("%q is not host:port: write a host and a port, and credentials in their own fields", withoutSecrets(address))
	}
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port: write for example server.default:%s", address, usual)
	}
	if strings.ContainsAny(host, " /#") {
		return fmt.Errorf("%q is not host:port: %q cannot be a host", address, host)
	}
	return checkPort(address, port)
}

// checkPort returns nil for a port from 1 to 65535.
func checkPort(address, port string) error {
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q has the port %q: a port is a number from 1 to 65535", address, port)
	}
	return nil
}

// urls are those that a field takes.
type urls struct {
	schemes []string
	example string
	single  bool // not several, separated by commas
	bare    bool // an address without a scheme is one with the first
}

// check returns nil for what list holds.
func (k urls) check(list string) error {
	switch {
	case strings.TrimSpace(list) == "" && k.single:
		return fmt.Errorf("is empty: write a URL such as %s", k.example)
	case strings.TrimSpace(list) == "":
		return fmt.Errorf("is empty: write a URL such as %s, several separated by commas", k.example)
	case k.single:
		return k.checkOne(list)
	}
	for address := range strings.SplitSeq(list, ",") {
		if err := k.checkOne(strings.TrimSpace(address)); err != nil {
			return err
		}
	}
	return nil
}

func (k urls) checkOne(address string) error {
	full := address
	if k.bare && address != "" && !strings.Contains(address, "://") {
		full = k.schemes[0] + "://" + address
	}
	u, err := url.Parse(full)
	several := k.single && strings.Contains(address, ",")
	address = withoutSecrets(address)
	switch {
	case address == "":
		return errors.New("holds an empty address: write URLs, separated by single commas")
	case several && (err != nil || strings.Contains(u.Host, ",")):
		return fmt.Errorf("%q is several URLs: write one, such as %s", address, k.example)
	case err != nil && strings.Contains(err.Error(), "invalid port"):
		return fmt.Errorf("%q has a port that is not a number: a port is a number from 1 to 65535", address)
	case err != nil:
		return fmt.Errorf("%q is not a URL: write for example %s", address, k.example)
	case !slices.Contains(k.schemes, u.Scheme):
		return fmt.Errorf("%q does not begin with a scheme that can be used (%s): write for example %s", address, strings.Join(k.schemes, ", "), k.example)
	case u.Hostname() == "":
		return fmt.Errorf("%q has no host: write for example %s", address, k.example)
	case u.Port() != "":
		return checkPort(address, u.Port())
	}
	return nil
}

// withoutSecrets hides what stands before the @ of a URL, which may be a password, and its query, which may be a token.
func withoutSecrets(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		scheme, rest = "", address
	} else {
		scheme += "://"
	}
	at, query := strings.LastIndex(rest, "@"), strings.Index(rest, "?")
	if query >= 0 && query < at { // a password that is not escaped, or a query with an @: who knows
		return scheme + "***"
	}
	if query >= 0 {
		rest = rest[:query] + "?***"
	}
	if at >= 0 {
		rest = "***" + rest[at:]
	}
	return scheme + rest
}

// userOf reports whether one of the URLs of a comma-separated list has a user in it, and whether one has a password.
func userOf(list string) (user, password bool) {
	for address := range strings.SplitSeq(list, ",") {
		if u, err := url.Parse(strings.TrimSpace(address)); err == nil && u.User != nil {
			_, has := u.User.Password()
			user, password = true, password || has
		}
	}
	return user, password
}
