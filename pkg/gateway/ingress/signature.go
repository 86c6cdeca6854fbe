package ingress

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openfunction/events/pkg/plan"
)

// signature checks that a body was signed with one of the secrets.
type signature struct {
	header    string
	read      func(value string) (signed, bool)
	challenge string
	secrets   []string
	tolerance time.Duration
	now       func() time.Time
}

// signed is what a signature's header says.
type signed struct {
	// prefix stands before the body in what was signed.
	prefix string
	// at is when that was; zero where the scheme does not tell.
	at time.Time
	// macs are the signatures: one that matches is enough, as senders that change their secret send one of each for a while.
	macs [][]byte
}

func newSignature(h *plan.HMAC, realm string, now func() time.Time) (auth, error) {
	if err := filled(h.Secrets); err != nil {
		return auth{}, fmt.Errorf("hmac: %w", err)
	}
	s := &signature{secrets: h.Secrets, tolerance: cmp.Or(h.Tolerance, 5*time.Minute), now: now}
	switch h.Scheme {
	case "github":
		s.header, s.read = "X-Hub-Signature-256", readGitHub
	case "stripe":
		s.header, s.read = "Stripe-Signature", readStripe
	default:
		return auth{}, fmt.Errorf("hmac: scheme %q is not known: use github or stripe", h.Scheme)
	}
	s.challenge = fmt.Sprintf("HMAC realm=%q, header=%q", realm, s.header)
	return auth{
		head: func(r *http.Request) error {
			_, err := s.shown(r.Header)
			return err
		},
		body: s.check,
	}, nil
}

// shown reads the signature. Whether it is the body's is left to check.
func (s *signature) shown(h http.Header) (signed, error) {
	value := h.Get(s.header)
	if value == "" {
		return signed{}, unauthorized(s.challenge, fmt.Sprintf("the request is not signed: send header %s", s.header))
	}
	is, ok := s.read(value)
	if !ok {
		return signed{}, unauthorized(s.challenge, fmt.Sprintf("header %s is not a signature: send what its scheme asks for", s.header))
	}
	if !is.at.IsZero() && s.now().Sub(is.at).Abs() > s.tolerance {
		return signed{}, unauthorized(s.challenge, fmt.Sprintf("the signature is of another time than now, by more than %s: sign the request anew, and look at the clocks", s.tolerance))
	}
	return is, nil
}

func (s *signature) check(h http.Header, body []byte) error {
	is, err := s.shown(h)
	if err != nil {
		return err
	}
	for _, secret := range s.secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = mac.Write([]byte(is.prefix)) // a hash takes everything
		_, _ = mac.Write(body)
		want := mac.Sum(nil)
		for _, got := range is.macs {
			if hmac.Equal(want, got) {
				return nil
			}
		}
	}
	return unauthorized(s.challenge, fmt.Sprintf("header %s is not the signature of this body: sign it, byte for byte, with the secret of this event", s.header))
}

// readGitHub reads sha256=HEX.
func readGitHub(value string) (signed, bool) {
	digits, ok := strings.CutPrefix(value, "sha256=")
	mac, err := hex.DecodeString(digits)
	return signed{macs: [][]byte{mac}}, ok && err == nil
}

// readStripe reads t=SECONDS,v1=HEX with any number of v1, and others, which are for other versions.
func readStripe(value string) (signed, bool) {
	var is signed
	for item := range strings.SplitSeq(value, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		switch name {
		case "t":
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil || seconds <= 0 {
				return signed{}, false
			}
			is.prefix, is.at = value+".", time.Unix(seconds, 0)
		case "v1":
			if mac, err := hex.DecodeString(value); err == nil {
				is.macs = append(is.macs, mac)
			}
		}
	}
	return is, !is.at.IsZero() && len(is.macs) > 0
}
