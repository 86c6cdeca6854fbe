// Package natsaccesstest is how a connection to a NATS server can be wrong, for the conformance suite of the buses on one.
package natsaccesstest

import (
	"context"
	"strconv"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/plan"
)

// wrongSecret is no server's password or token.
const wrongSecret = "wr0ng-s3cret"

// Refusals returns what is wrong in other ways than right, which a server takes: a user and a password over TLS. Stranger is the certificate
// of an authority that did not issue the server's, and open connects.
func Refusals(t testing.TB, right plan.NATSAccess, stranger string, open func(context.Context, plan.NATSAccess) bus.Bus) []bustest.Refusal {
	t.Helper()
	key, seed := newKey(t, nkeys.CreateUser)
	_, account := newKey(t, nkeys.CreateAccount)
	with := func(change func(*plan.NATSAccess)) plan.NATSAccess {
		a := right
		a.TLS = new(*right.TLS)
		change(&a)
		return a
	}
	var list []bustest.Refusal
	add := func(name, secret string, a plan.NATSAccess, want ...string) {
		list = append(list, bustest.Refusal{
			Name: name, Secret: secret, Want: want,
			New: func(ctx context.Context, _ testing.TB) bus.Bus { return open(ctx, a) },
		})
	}
	add("a wrong password", wrongSecret, with(func(a *plan.NATSAccess) { a.Password = wrongSecret }),
		"Authorization Violation", strconv.Quote(right.Username), "correct username", "passwordFrom")
	for _, other := range []struct {
		name, secret string
		access       plan.NATSAccess
		want         []string
	}{
		{"no password", "", plan.NATSAccess{}, []string{"Authorization Violation", "without credentials", "passwordFrom"}},
		{"a wrong token", wrongSecret, plan.NATSAccess{Token: wrongSecret}, []string{"Authorization Violation", "tokenFrom"}},
		{"an nkey that is not known", seed, plan.NATSAccess{NKeySeed: seed}, []string{key, "nkeySeedFrom"}},
		{"the seed of an account", account, plan.NATSAccess{NKeySeed: account}, []string{"nkeySeedFrom", "begins with SU"}},
		{"credentials without a JWT", seed, plan.NATSAccess{Credentials: seed}, []string{"credentialsFrom", "it has no JWT"}},
	} {
		other.access.TLS = right.TLS
		add(other.name, other.secret, other.access, other.want...)
	}
	add("an unknown authority", right.Password, with(func(a *plan.NATSAccess) { a.TLS.CACerts = stranger }),
		"authority that is not", "tls.caCertFrom")
	add("no authority", right.Password, with(func(a *plan.NATSAccess) { a.TLS = nil }),
		"authority that is not", "tls.caCertFrom")
	add("a certificate for another host", right.Password, with(func(a *plan.NATSAccess) { a.TLS.ServerName = "elsewhere.example.com" }),
		"for another host", "elsewhere.example.com", "tls.serverName")
	return list
}

// newKey returns the public key and the seed of a new nkey.
func newKey(t testing.TB, create func() (nkeys.KeyPair, error)) (public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, _ = pair.PublicKey()
	s, _ := pair.Seed()
	return public, string(s)
}
