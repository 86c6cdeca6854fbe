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

// ParseBrokers splits a comma-separated list of host:port.
func ParseBrokers(list string) ([]string, error) {
	if strings.TrimSpace(list) == "" {
		return nil, errors.New("is empty: write host:port, several separated by commas")
	}
	var brokers []string
	for broker := range strings.SplitSeq(list, ",") {
		broker = strings.TrimSpace(broker)
		if err := checkHostPort(broker); err != nil {
			return nil, err
		}
		brokers = append(brokers, broker)
	}
	return brokers, nil
}

// checkHostPort returns nil for host:port.
func checkHostPort(address string) error {
	if address == "" {
		return errors.New("holds an empty address: write host:port, several separated by single commas")
	}
	if scheme, _, ok := strings.Cut(address, "://"); ok {
		return fmt.Errorf("%q begins with a scheme: write host:port without %s://", address, scheme)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port: write for example server.default:9092", address)
	}
	if strings.ContainsAny(host, " /@?#") {
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

// checkURLs returns nil for a comma-separated list of URLs with one of the schemes. An address without a scheme passes when bare is true.
func checkURLs(list string, bare bool, schemes ...string) error {
	if strings.TrimSpace(list) == "" {
		return fmt.Errorf("is empty: write a URL such as %s://host:port, several separated by commas", schemes[0])
	}
	for address := range strings.SplitSeq(list, ",") {
		if err := checkURL(strings.TrimSpace(address), bare, schemes); err != nil {
			return err
		}
	}
	return nil
}

func checkURL(address string, bare bool, schemes []string) error {
	full := address
	if bare && address != "" && !strings.Contains(address, "://") {
		full = schemes[0] + "://" + address
	}
	u, err := url.Parse(full)
	address = withoutUser(address)
	switch {
	case address == "":
		return errors.New("holds an empty address: write URLs, separated by single commas")
	case err != nil && strings.Contains(err.Error(), "invalid port"):
		return fmt.Errorf("%q has a port that is not a number: a port is a number from 1 to 65535", address)
	case err != nil:
		return fmt.Errorf("%q is not a URL: write for example %s://host:port", address, schemes[0])
	case !slices.Contains(schemes, u.Scheme):
		return fmt.Errorf("%q does not begin with a scheme that can be used (%s): write for example %s://host:port", address, strings.Join(schemes, ", "), schemes[0])
	case u.Hostname() == "":
		return fmt.Errorf("%q has no host: write for example %s://host:port", address, schemes[0])
	case u.Port() != "":
		return checkPort(address, u.Port())
	}
	return nil
}

// withoutUser hides what stands before the @ of a URL, which may be a password.
func withoutUser(address string) string {
	at := strings.LastIndex(address, "@")
	if at < 0 {
		return address
	}
	scheme, _, ok := strings.Cut(address, "://")
	if !ok {
		return "***" + address[at:]
	}
	return scheme + "://***" + address[at:]
}

// holdsPassword reports whether one of the URLs of a comma-separated list has a password in it.
func holdsPassword(list string) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(address string) bool {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil || u.User == nil {
			return false
		}
		_, has := u.User.Password()
		return has
	})
}
