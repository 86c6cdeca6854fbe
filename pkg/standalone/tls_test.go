package standalone

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// sinkOverTLS is one whose certificate can be replaced. It takes events over new connections only.
type sinkOverTLS struct {
	*httptest.Server
	certificate atomic.Pointer[tls.Certificate]
	handshakes  atomic.Int32
	took        output // the body of each event, and a new line
}

func newSinkOverTLS(t *testing.T) *sinkOverTLS {
	s := &sinkOverTLS{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(&s.took, "%s\n", body)
	}))
	s.Config.SetKeepAlivesEnabled(false)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s.handshakes.Add(1)
		return &tls.Config{Certificates: []tls.Certificate{*s.certificate.Load()}}, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *sinkOverTLS) show(t *testing.T, c servers.Certificate) {
	pair := c.Pair(t)
	s.certificate.Store(&pair)
}

// TestRunPostsToSinksOverTLS has a sink change its certificate: events wait while it is not trusted, which is said once with the cure.
func TestRunPostsToSinksOverTLS(t *testing.T) {
	first, second := servers.NewAuthority(t), servers.NewAuthority(t)
	sink := newSinkOverTLS(t)
	file := filepath.Join(t.TempDir(), "tls.yaml")
	trust := func(cert string) {
		write(t, file, fmt.Sprintf(`
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default}, spec: {embedded: {}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: es}, spec: {eventBus: default, http: {e: {raw: true}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t}, spec: {eventBus: default, inputs: {i: {eventSource: es, event: e}},
  subscribers: [{condition: i, sink: {uri: %q, CACerts: %q}, delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.02S}}]}}
`, sink.URL+"/in", cert))
	}
	trust(first.Cert)
	sink.show(t, first.Server())
	p := start(t, Options{Paths: []string{file}})
	base := p.stderr.wait(t, `^listening on (http://127\.0\.0\.1:\d+)$`)[1]
	posted := 0
	send := func() {
		t.Helper()
		posted++
		if got := post(t, base+"/default/es/e", strconv.Itoa(posted)); got != http.StatusAccepted {
			t.Fatalf("POST = %d, want 202", got)
		}
	}
	taken := func() {
		t.Helper()
		for n := range posted {
			sink.took.wait(t, fmt.Sprintf("^%d$", n+1))
		}
	}
	// waits sends events that the sink's certificate keeps from being delivered, and wants them to be tried, and one line that says why.
	waits := func(why string) {
		t.Helper()
		before, had := sink.handshakes.Load(), sink.took.String()
		for range 5 {
			send()
		}
		p.stderr.wait(t, `"event is not taken, trying again".*"Trigger default/t subscriber .*post `+regexp.QuoteMeta(sink.URL+"/in: "+why))
		for deadline := time.Now().Add(20 * time.Second); sink.handshakes.Load() < before+20; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d attempts, want 20 and more", sink.handshakes.Load()-before)
			}
		}
		if n := strings.Count(p.stderr.String(), why); n != 1 {
			t.Errorf("%d lines say %q, want 1:\n%s", n, why, p.stderr.String())
		}
		if got := sink.took.String(); got != had {
			t.Errorf("the sink has\n%s, want\n%s", got, had)
		}
	}

	send()
	taken()

	sink.show(t, second.Server())
	waits("the sink's certificate was signed by an authority that is not trusted: correct CACerts")
	trust(first.Cert + second.Cert)
	taken()

	sink.show(t, second.ServerOf("sink.example.com"))
	waits("the sink's certificate is for another host (x509: ")
	sink.show(t, second.Server())
	taken()

	trust("not a certificate")
	p.stderr.wait(t, `tls\.yaml.* Trigger default/t: spec\.subscribers\[0\]\.sink\.CACerts: holds no PEM certificate`)
	p.stderr.wait(t, `^not applied, the state before goes on; mistakes: 1$`)
	send()
	taken()
	if strings.Contains(p.stderr.String(), "dead-lettered") {
		t.Errorf("an event was dead-lettered:\n%s", p.stderr.String())
	}
}
