package natsaccess

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/plan"
)

// Grants are the subjects that a bus's user must be permitted, with wildcards.
type Grants struct{ Publish, Subscribe []string }

// Denial is that the server let us in and did not permit something then. It is an nats.ErrPermissionViolation. What it says is the same for every
// try: what is new in a subject each time is left out.
type Denial struct {
	Subject   string // as the server has it
	Subscribe bool   // else to publish
	who, cure string
}

// Denied returns what err says that the server did not permit, or nil. The server tells of it besides, and answers nothing.
func Denied(a plan.NATSAccess, urls string, g Grants, err error) *Denial {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	d := &Denial{who: user(a, urls)}
	grants := g.Publish
	_, quoted, ok := strings.Cut(err.Error(), "Violation for Publish to ")
	if !ok {
		_, quoted, d.Subscribe = strings.Cut(err.Error(), "Violation for Subscription to ")
		grants = g.Subscribe
	}
	_, quoted, _ = strings.Cut(quoted, `"`)
	d.Subject, _, _ = strings.Cut(quoted, `"`)
	if d.Subject == "" {
		return nil
	}
	d.cure = d.Subject
	for _, grant := range grants {
		if matches(grant, d.Subject) {
			d.cure = grant
			break
		}
	}
	return d
}

func (d *Denial) Error() string {
	what, cure := "Publish", "publish"
	if d.Subscribe {
		what, cure = "Subscription", "subscribe"
	}
	return fmt.Sprintf("the server lets us in, but permits too little (Permissions Violation for %s to %q): permit to %s to %q for %s",
		what, stable(d.Subject), cure, d.cure, d.who)
}

// Unwrap makes it an nats.ErrPermissionViolation.
func (d *Denial) Unwrap() error { return nats.ErrPermissionViolation }

// Cure is the subject to permit, with wildcards.
func (d *Denial) Cure() string { return d.cure }

// stable returns subject without what is another one each time: the place of a message, the name of an inbox.
func stable(subject string) string {
	tokens := strings.Split(subject, ".")
	keep := len(tokens)
	switch {
	case tokens[0] == "_INBOX":
		keep = 1
	case strings.HasPrefix(subject, "_STAN.acks."):
		keep = 2
	case strings.HasPrefix(subject, "$JS.ACK.") && len(tokens) == 9: // stream and consumer
		keep = 4
	case strings.HasPrefix(subject, "$JS.ACK."): // the same, after domain and account
		keep = 6
	}
	if keep >= len(tokens) {
		return subject
	}
	return strings.Join(tokens[:keep], ".") + ".>"
}

// matches tells whether the subject is one of those that pattern is for.
func matches(pattern, subject string) bool {
	want, has := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range want {
		switch {
		case i >= len(has):
			return false
		case token == ">":
			return true
		case token != "*" && token != has[i]:
			return false
		}
	}
	return len(want) == len(has)
}

// user says who needs a permission.
func user(a plan.NATSAccess, urls string) string {
	switch {
	case strings.Contains(urls, "@"):
		return "the user in the URL"
	case a.Credentials != "":
		return "the user whose file credentialsFrom names"
	case a.NKeySeed != "":
		who, _ := identity(a, urls)
		return who
	case a.Token != "":
		return "who has the token"
	case a.Username != "" || a.Password != "":
		return fmt.Sprintf("the user %q", a.Username)
	case a.TLS != nil && a.TLS.Cert != "":
		return "the user of the client certificate"
	}
	return "who comes without credentials"
}
