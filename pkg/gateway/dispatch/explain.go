package dispatch

import (
	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

// explain returns err, of a request to s, as it may be shown: as a sentence that says why there is no TLS with the sink and what to do if that
// is the reason, and without secrets, since an answer that is not HTTP is told.
func (s *Sink) explain(err error) error {
	p := peer.Peer{
		Name: "the sink", TLS: &plan.TLS{CACerts: s.caCerts}, Authorities: "CACerts, beside the sink's uri, uriFrom or ref,",
		Host: "correct the URL", Plain: "write http for https in its URL, or correct the port",
	}
	if s.caCerts != "" {
		p.Authorities = "CACerts, beside the sink's uri, uriFrom or ref or in the address of what ref names"
	}
	if untrusted := p.Untrusted(err); untrusted != nil {
		err = untrusted
	}
	if text := s.hide(err.Error()); text != err.Error() {
		return &hidden{err, text}
	}
	return err
}

// hidden is an error with another text, such as one that holds no secrets.
type hidden struct {
	err  error
	text string
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.err }
