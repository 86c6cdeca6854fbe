package dispatch

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func TestSinkSaysWhyACertificateIsNotTrusted(t *testing.T) {
	ours, other := servers.NewAuthority(t), servers.NewAuthority(t)
	for _, tt := range []struct {
		name    string
		shown   servers.Certificate
		caCerts string
		want    string // after who was posted to; "" is that the event was taken
	}{
		{"trusted", ours.Server(), ours.Cert, ""},
		{"trusted for one of several authorities", ours.Server(), other.Cert + ours.Cert, ""},
		{"no authority", ours.Server(), "", "the sink's certificate was signed by an authority that is not trusted: " +
			"set CACerts, beside the sink's uri or ref, to the certificate of that authority"},
		{"another authority", ours.Server(), other.Cert, "the sink's certificate was signed by an authority that is not trusted: " +
			"correct CACerts, beside the sink's uri or ref or in the address of what ref names: they do not hold the certificate of that authority"},
		{"another host", ours.ServerOf("sink.example.com"), ours.Cert, "the sink's certificate is for another host " +
			"(x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs): correct the URL, or give the sink a certificate for this one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					w.WriteHeader(http.StatusHTTPVersionNotSupported)
				}
			}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.EnableHTTP2 = true
			server.TLS = &tls.Config{Certificates: []tls.Certificate{tt.shown.Pair(t)}}
			server.StartTLS()
			defer server.Close()
			c := NewClient(nil)
			defer c.Close()
			s, err := c.Sink(plan.Target{URL: server.URL, CACerts: tt.caCerts})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
				got = strings.TrimPrefix(err.Error(), "post "+server.URL+": ")
				if event.IsPermanent(err) {
					t.Error("it is not tried again")
				}
			}
			if got != tt.want {
				t.Errorf("Handle() = %s\nwant %s", got, tt.want)
			}
		})
	}
}
