package servers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// NATSAccount is an account of a NATS server that lets in whoever shows a credentials file, as nsc writes it.
type NATSAccount struct {
	t testing.TB
	// operator signs accounts, and the account's own key its users.
	operator, key nkeys.KeyPair
	operatorJWT   string
	system        string // another account, its id
	users         []string
}

// NewNATSAccount returns an account without users, of an operator that nobody else knows.
func NewNATSAccount(t testing.TB) *NATSAccount {
	t.Helper()
	a := &NATSAccount{t: t, operator: newNKey(t, nkeys.CreateOperator), key: newNKey(t, nkeys.CreateAccount)}
	a.system = public(t, newNKey(t, nkeys.CreateAccount))
	a.operatorJWT = a.encode(jwt.NewOperatorClaims(public(t, a.operator)), a.operator)
	return a
}

// User returns the credentials file of a new user. The first one is number 0.
func (a *NATSAccount) User() string {
	a.t.Helper()
	user := newNKey(a.t, nkeys.CreateUser)
	seed, err := user.Seed()
	if err != nil {
		a.t.Fatal(err)
	}
	a.users = append(a.users, public(a.t, user))
	file, err := jwt.FormatUserConfig(a.encode(jwt.NewUserClaims(public(a.t, user)), a.key), seed)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(file)
}

// Directives are lines of the configuration of a server that lets in these users and has revoked all others.
func (a *NATSAccount) Directives(users ...int) []string {
	a.t.Helper()
	id := public(a.t, a.key)
	account := jwt.NewAccountClaims(id)
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	for n, user := range a.users {
		if !slices.Contains(users, n) {
			account.Revoke(user)
		}
	}
	return []string{
		"operator: " + a.operatorJWT, "resolver: MEMORY", "system_account: " + a.system,
		fmt.Sprintf("resolver_preload: { %s: %s, %s: %s }", id, a.encode(account, a.operator),
			a.system, a.encode(jwt.NewAccountClaims(a.system), a.operator)),
	}
}

func (a *NATSAccount) encode(claims jwt.Claims, by nkeys.KeyPair) string {
	a.t.Helper()
	token, err := claims.Encode(by)
	if err != nil {
		a.t.Fatal(err)
	}
	return token
}

// NewNKey returns the public key and the seed of a new user's nkey.
func NewNKey(t testing.TB) (key, seed string) {
	t.Helper()
	pair := newNKey(t, nkeys.CreateUser)
	s, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return public(t, pair), string(s)
}

func newNKey(t testing.TB, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func public(t testing.TB, pair nkeys.KeyPair) string {
	t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(key)
}
