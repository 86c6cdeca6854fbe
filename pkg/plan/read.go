package plan

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// reader turns the fields of one part of an object into values, and what it cannot turn into problems.
type reader struct {
	c *compiler
	o object
	// failed is the first problem's path and message. A part that failed is not in the plan.
	failed string
	// final tells that one of the problems does not pass by itself: what ran before does not go on.
	final bool
}

func (c *compiler) reader(o object) *reader { return &reader{c: c, o: o} }

func (r *reader) problem(path, reason, format string, args ...any) {
	r.c.problem(r.o, path, reason, format, args...)
	r.final = r.final || reason == ReasonNotAllowed || reason == ReasonInvalid
	if r.failed == "" {
		p := r.c.problems[len(r.c.problems)-1]
		r.failed = p.Path + ": " + p.Message
	}
}

// why says in short what the first problem is about, "" if there is none.
func (r *reader) why() string {
	path, _, failed := strings.Cut(r.failed, ": ")
	if !failed {
		return ""
	}
	return path + " cannot be used"
}

func (r *reader) duration(path, s string, byDefault time.Duration) time.Duration {
	if s == "" {
		return byDefault
	}
	d, err := v1alpha1.ParseDuration(s)
	if err != nil {
		r.problem(path, ReasonInvalid, "%v", err)
	}
	return d
}

// secret returns what ref leads to, without the line's end that an editor may have left, or else the inline value.
func (r *reader) secret(path string, ref *v1alpha1.SecretKeyRef, inline *string) string {
	if ref == nil {
		return value(inline, "")
	}
	namespace := cmp.Or(r.o.namespace, SystemNamespace)
	s, err := r.c.opts.Secret(namespace, ref.Name, ref.Key)
	if err != nil {
		r.problem(path, ReasonSecretNotFound, "key %q of Secret %s/%s: %v", ref.Key, namespace, ref.Name, err)
		return ""
	}
	if s = strings.TrimRight(s, "\r\n"); s == "" {
		r.problem(path, ReasonSecretNotFound, "key %q of Secret %s/%s is empty: write the value there, or leave this field out", ref.Key, namespace, ref.Name)
	}
	return s
}

// userName is secret, for one that cannot do without.
func (r *reader) userName(path string, ref *v1alpha1.SecretKeyRef, inline *string) string {
	before := r.failed
	name := r.secret(path, ref, inline)
	if name == "" && r.failed == before {
		r.problem(path, ReasonInvalid, "the user name is empty: write it to where this leads")
	}
	return name
}

// target returns where d leads, nil when there is no d.
func (r *reader) target(path string, d *v1alpha1.Sink) *Target {
	switch {
	case d == nil:
		return nil
	case d.URIFrom != nil:
		return r.secretTarget(path+".uriFrom", d)
	}
	t, err := r.c.opts.Resolve(&d.Destination, r.o.namespace)
	if err != nil {
		r.problem(path, ReasonSinkNotResolved, "%v", err)
		return nil
	}
	if err := t.check(); err != nil {
		r.problem(path, ReasonSinkNotResolved, "%s %v", t.Name, err)
		return nil
	}
	return t
}

// secretTarget returns where d leads, whose URL is in a Secret.
func (r *reader) secretTarget(path string, d *v1alpha1.Sink) *Target {
	from := d.URIFrom
	t := &Target{
		Name:   fmt.Sprintf("sink of Secret %s/%s, key %s", r.o.namespace, from.Name, from.Key),
		Secret: true, CACerts: value(d.CACerts, ""),
	}
	text := r.secret(path, from, nil)
	if text == "" {
		return nil // it would be the display
	}
	t.URL = strings.TrimSpace(text)
	u, err := url.Parse(t.URL)
	if err != nil || !postable(u) {
		r.problem(path, ReasonSecretInvalid, "key %q of Secret %s/%s is not an http or https URL: write one there, such as https://example.com/in", from.Key, r.o.namespace, from.Name)
		return nil
	}
	if u.Scheme == "http" && t.CACerts != "" { // whoever gives CACerts wants TLS, and admission cannot warn of what it does not see
		r.problem(path, ReasonSecretInvalid, "key %q of Secret %s/%s is an http URL, beside which CACerts are not used: write https there to post over TLS, or leave CACerts out", from.Key, r.o.namespace, from.Name)
		return nil
	}
	if err := t.check(); err != nil {
		r.problem(path, ReasonSinkNotResolved, "%s %v", t.Name, err)
		return nil
	}
	return t
}

// postable tells whether u, which could be parsed, is an absolute URL that can be posted to.
func postable(u *url.URL) bool {
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "1"), 10, 16)
	return u.Hostname() != "" && err == nil && port > 0 && (u.Scheme == "http" || u.Scheme == "https")
}

// check tells why nothing can be posted to t, whose address may be what another object says of itself. No address is for the display.
func (t *Target) check() error {
	if t.URL == "" {
		return nil
	}
	u, err := url.Parse(t.URL)
	if err != nil || !postable(u) {
		return errors.New("leads to an address that is not an http or https URL: correct the ref, or the status of what it names")
	}
	if _, err := (&TLS{CACerts: t.CACerts}).Config(); err != nil {
		return fmt.Errorf("has an address with CACerts that cannot be used: %w", err)
	}
	return nil
}

// delivery is s with its defaults; nil is all defaults.
func (r *reader) delivery(path string, s *v1alpha1.DeliverySpec) Delivery {
	p, err := s.Policy()
	if err != nil {
		r.problem(path, ReasonInvalid, "%v", err)
	}
	return Delivery(p)
}

// value is what p points at, or a default when p is nil.
func value[T any](p *T, byDefault T) T {
	if p == nil {
		return byDefault
	}
	return *p
}
