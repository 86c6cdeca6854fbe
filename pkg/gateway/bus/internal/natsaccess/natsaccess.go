// Package natsaccess is how the buses on NATS servers show who they are, and what they say when a server does not let them in.
package natsaccess

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/openfunction/events/pkg/plan"
)

// Options returns how a connection shows who it is and how it is secured. Nothing of it is ever written to disk. An error is one that
// only another a can cure, and holds nothing of it.
func Options(a plan.NATSAccess) ([]nats.Option, error) {
	options, err := login(a)
	if err != nil {
		return nil, err
	}
	c, err := a.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w: correct it, or the Secret that it comes from", err)
	}
	if c != nil {
		options = append(options, nats.Secure(c))
	}
	return options, nil
}

func login(a plan.NATSAccess) ([]nats.Option, error) {
	switch {
	case a.Credentials != "":
		return credentials(a.Credentials)
	case a.NKeySeed != "":
		return nkey(a.NKeySeed)
	case a.Token != "":
		return []nats.Option{nats.Token(a.Token)}, nil
	case a.Username != "" || a.Password != "":
		return []nats.Option{nats.UserInfo(a.Username, a.Password)}, nil
	}
	return nil, nil
}

const noCredentials = "the value of credentialsFrom is not a credentials file, with a user's JWT and its nkey seed (%w): put the content of the .creds file that nsc writes into the Secret"

func credentials(file string) ([]nats.Option, error) {
	pair, err := seed(file)
	if err != nil {
		return nil, fmt.Errorf(noCredentials, err)
	}
	jwt, err := nkeys.ParseDecoratedJWT([]byte(file))
	if err != nil || strings.Count(jwt, ".") != 2 || strings.ContainsAny(jwt, " \r\n") { // a file without a JWT comes back as it is
		return nil, fmt.Errorf(noCredentials, errors.New("it has no JWT"))
	}
	return []nats.Option{nats.UserJWT(func() (string, error) { return jwt, nil }, pair.Sign)}, nil
}

func nkey(value string) ([]nats.Option, error) {
	pair, err := seed(value)
	var public string
	if err == nil {
		public, err = pair.PublicKey()
	}
	if err != nil {
		return nil, fmt.Errorf("the value of nkeySeedFrom is not the seed of a user's nkey (%w): put one into the Secret, it begins with SU", err)
	}
	return []nats.Option{nats.Nkey(public, pair.Sign)}, nil
}

// seed reads the seed of a user's nkey, alone or in a credentials file.
func seed(text string) (nkeys.KeyPair, error) {
	return nkeys.ParseDecoratedUserNKey([]byte(strings.TrimSpace(text) + "\n"))
}
