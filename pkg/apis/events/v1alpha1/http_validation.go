package v1alpha1

import (
	"strings"
	"time"

	"github.com/openfunction/events/pkg/event"
)

const (
	maxEventsPerSecond = 1_000_000
	maxTolerance       = time.Hour
)

func (s *HTTPSpec) validate(r report) {
	between(r.field("maxBodyBytes"), s.MaxBodyBytes, 1, maxBodyBytes)
	for _, t := range []struct{ name, text string }{{"id", s.ID}, {"type", s.Type}, {"source", s.Source}, {"subject", s.Subject}} {
		at := r.field(t.name)
		if t.text != "" && !s.Raw {
			at.warnf("is for bodies that are not CloudEvents, which are refused unless raw is true: set raw, or leave %s out", t.name)
		}
		parsed, err := event.ParseTemplate(t.text)
		switch {
		case err != nil:
			at.errorf("%v", err)
		case t.name == "id" && t.text != "" && parsed.IsText():
			at.errorf("is the same for all events, which would be repeats of the first: write what tells them apart, for example ${header.X-GitHub-Delivery}")
		}
	}
	s.Auth.validate(r.field("auth"))
	if l := s.RateLimit; l != nil {
		at := r.field("rateLimit")
		between(at.field("eventsPerSecond"), &l.EventsPerSecond, 1, maxEventsPerSecond)
		between(at.field("burst"), l.Burst, 1, maxEventsPerSecond)
	}
}

func (s *HTTPAuthSpec) validate(r report) {
	if s == nil {
		return
	}
	var set []string
	if s.Bearer != nil {
		set = append(set, "bearer")
		r.field("bearer").requiredSecret("token", s.Bearer.TokenFrom, "the token")
	}
	if s.Basic != nil {
		set = append(set, "basic")
		at := r.field("basic")
		if !at.secret("username", s.Basic.Username, s.Basic.UsernameFrom) {
			at.field("username").errorf("is empty: write the user name to expect")
		}
		at.requiredSecret("password", s.Basic.PasswordFrom, "the password")
	}
	if s.HMAC != nil {
		set = append(set, "hmac")
		s.HMAC.validate(r.field("hmac"))
	}
	if s.OIDC != nil {
		set = append(set, "oidc")
		at := r.field("oidc")
		at.field("issuer").httpsURL(s.OIDC.Issuer, "https://token.actions.githubusercontent.com")
		if s.OIDC.Audience == "" {
			at.field("audience").errorf("is empty: write whom the tokens must be for, or tokens for anyone would do")
		}
		at.authorities(s.OIDC.CACert, s.OIDC.CACertFrom)
	}
	switch len(set) {
	case 0:
		r.errorf("says nothing: set one of bearer, basic, hmac or oidc, or leave auth out")
	case 1:
	default:
		r.errorf("asks for %s: keep one", strings.Join(set, " and "))
	}
}

func (s *HMACAuthSpec) validate(r report) {
	at := r.field("scheme")
	if s.Scheme == "" {
		at.errorf("is empty: use github or stripe")
	}
	at.oneOf(s.Scheme, "github", "stripe")
	r.requiredSecret("secret", s.SecretFrom, "the signing secret")
	if s.Tolerance == nil {
		return
	}
	if s.Scheme == "github" {
		r.field("tolerance").warnf("is not used: signatures of this scheme hold no time, leave it out")
	}
	r.field("tolerance").duration(*s.Tolerance, time.Second, maxTolerance)
}
