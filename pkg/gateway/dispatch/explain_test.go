package dispatch

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func TestSinkSaysWhyACertificateIsNotTrusted(t *testing.T) {
	ours, other := servers.NewAuthority(t), servers.NewAuthority(t)
	past := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		shown   servers.Certificate // without one there is no TLS
		wants   tls.ClientAuthType
		caCerts string
		want    string // after who was posted to; "" is that the event was taken
	}{
		{"trusted", ours.Server(), 0, ours.Cert, ""},
		{"trusted for one of several authorities", ours.Server(), 0, other.Cert + ours.Cert, ""},
		{"no authority", ours.Server(), 0, "", "the sink's certificate was signed by an authority that is not trusted: " +
			"set CACerts, beside the sink's uri, uriFrom or ref, to the certificate of that authority"},
		{"another authority", ours.Server(), 0, other.Cert, "the sink's certificate was signed by an authority that is not trusted: " +
			"correct CACerts, beside the sink's uri, uriFrom or ref or in the address of what ref names: no valid certificate of that authority is there"},
		{"another host", ours.ServerOf("sink.example.com"), 0, ours.Cert, "the sink's certificate is for another host " +
			"(x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs): correct the URL, or give the sink a certificate for this one"},
		{"an expired certificate", ours.ServerAt(past.Add(-time.Hour), past), 0, ours.Cert, "the sink's certificate expired at 2020-02-03T04:05:06Z: renew it there"},
		{"a certificate of ours is wanted", ours.Server(), tls.RequireAnyClientCert, ours.Cert,
			"the sink wants a client certificate (tls: certificate required), and there is none to show: have it want none"},
		{"no TLS", servers.Certificate{}, 0, ours.Cert, "the sink speaks no TLS: write http for https in its URL, or correct the port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					w.WriteHeader(http.StatusHTTPVersionNotSupported)
				}
			}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.EnableHTTP2 = true
			if tt.shown == (servers.Certificate{}) {
				server.Start()
			} else {
				server.TLS = &tls.Config{Certificates: []tls.Certificate{tt.shown.Pair(t)}, ClientAuth: tt.wants}
				server.StartTLS()
			}
			defer server.Close()
			url := "https://" + server.Listener.Addr().String()
			c := NewClient(nil)
			defer c.Close()
			s, err := c.Sink(plan.Target{URL: url, CACerts: tt.caCerts})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for range 50 {
				got = ""
				if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
					got = strings.TrimPrefix(err.Error(), "post "+url+": ")
					if event.IsPermanent(err) {
						t.Error("it is not tried again")
					}
				}
				// A server that ends a connection with something unread resets it, and its reason may be lost on the way.
				if tt.wants == 0 || got == tt.want {
					break
				}
			}
			if got != tt.want {
				t.Errorf("Handle() = %s\nwant %s", got, tt.want)
			}
		})
	}
}
