package jetstream_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// What is said of a certificate that has expired is the same at each attempt: the text of Go's error has the time of day.
func TestACertificateThatHasExpired(t *testing.T) {
	authority, past := servers.NewAuthority(t), time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	s := guarded(t, &server.Options{TLS: true, TLSTimeout: 10, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{authority.ServerAt(past.Add(-time.Hour), past).Pair(t)},
	}})
	b := open(t, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{
		URL: "tls://" + s.Addr().String(), NATSAccess: plan.NATSAccess{TLS: &plan.TLS{CACerts: authority.Cert}},
	}})
	want := "nats " + s.Addr().String() + ": the server's certificate expired at 2020-02-03T04:05:06Z: renew it there"
	eventually(t, want, func() bool {
		err := b.Ready()
		return err != nil && strings.HasSuffix(err.Error(), want)
	})
}
