package dispatch

import "github.com/openfunction/events/pkg/plan"

// explain returns err, of a request to s, as it may be shown: as a sentence that says why the sink's certificate is not trusted and what to do
// if that is the reason, and without secrets, since an answer that is not HTTP is told.
func (s *Sink) explain(err error) error {
	cure := "set CACerts, beside the sink's uri or ref, to the certificate of that authority"
	if s.transport.TLSClientConfig.RootCAs != nil {
		cure = "correct CACerts, beside the sink's uri or ref or in the address of what ref names: they do not hold the certificate of that authority"
	}
	if untrusted := plan.Untrusted(err, "the sink", cure, "correct the URL"); untrusted != nil {
		return untrusted
	}
	if text := s.hide(err.Error()); text != err.Error() {
		return &hidden{err, text}
	}
	return err
}

// hidden is an error whose text holds no secrets.
type hidden struct {
	err  error
	text string
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.err }
