package natsaccess

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func TestConnectSaysWhyNoServerLetsUsIn(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, Username: "events", Password: "right"})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	guarded := s.Addr().String()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	stranger := func(talk func(net.Conn)) (address string) { return servers.NewStranger(t, "127.0.0.1:0", talk).Addr() }
	silent := stranger(servers.Silence)
	ends := stranger(func(net.Conn) {})
	http400 := stranger(servers.Greet(servers.HTTP))
	mail := stranger(servers.Greet("220 mail.example.com ESMTP\r\n"))
	endless := stranger(func(c net.Conn) {
		for err := error(nil); err == nil; _, err = c.Write(make([]byte, 1<<16)) {
		}
	})
	away := servers.FreeAddress(t)
	const cure = ": correct the host and the port in url"
	is := func(address, what string) string { return "nats " + address + ": what answers there " + what }
	isNone := func(address string) string { return is(address, "is not a NATS server"+cure) }
	refused := "nats " + guarded + `: the server refuses the user "events" or the password (Authorization Violation): correct username and the value of passwordFrom`

	for _, tt := range []struct{ name, url, want string }{
		{"silence", silent, is(silent, "says nothing: if it is not a NATS server, correct the host and the port in url")},
		{"the end", ends, "nats " + ends + ": the server ends the connection without an answer: if it is not a NATS server, correct the host and the port in url"},
		{"HTTP, when it is tired of waiting", http400, is(http400, "is not a NATS server, it speaks HTTP"+cure)},
		{"mail", mail, isNone(mail)},
		{"no end", endless, isNone(endless)},
		{"HTTP where WebSocket is wanted", "ws://" + web.Listener.Addr().String(), is(web.Listener.Addr().String(), "is not a NATS server that speaks WebSocket, it speaks HTTP"+cure)},
		{"nobody", away, "dial tcp " + away + ": connect: connection refused: start the server, or correct url"},
		{"a refusal", guarded, refused},
		{"a refusal, and nobody", away + "," + guarded + "," + away, refused},
		{"a refusal, and what is no server", mail + "," + guarded, refused},
		{"no server, and nobody", away + "," + mail, isNone(mail)},
		{"two that are none", mail + "," + ends, isNone(mail)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 { // in whatever order it tries them
				_, err := Connect(t.Context(), Servers{
					Access: plan.NATSAccess{Username: "events", Password: "hush"}, URL: tt.url, Field: "url", Dial: &net.Dialer{Timeout: 10 * time.Second},
				}, nats.Timeout(500*time.Millisecond))
				if err == nil || err.Error() != tt.want {
					t.Errorf("Connect = %v, want %s", err, tt.want)
				}
			}
		})
	}
	nc, err := Connect(t.Context(), Servers{
		Access: plan.NATSAccess{Username: "events", Password: "right"}, URL: strings.Join([]string{away, mail, guarded}, ", "), Field: "url",
		Dial: &net.Dialer{Timeout: 10 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestDeniedIsTheSameForEveryTry(t *testing.T) {
	grants := Grants{Publish: []string{"$JS.ACK.>", "events.*"}, Subscribe: []string{"_INBOX.>"}}
	for _, tt := range []struct{ said, want string }{
		{`Permissions Violation for Publish to "$JS.ACK.stream.consumer.1.2.3.1700000000.0"`,
			`Publish to "$JS.ACK.stream.consumer.>"): permit to publish to "$JS.ACK.>" for the user "events"`},
		{`Permissions Violation for Publish to "$JS.ACK.domain.hash.stream.consumer.1.2.3.1700000000.0"`,
			`Publish to "$JS.ACK.domain.hash.stream.consumer.>"): permit to publish to "$JS.ACK.>" for the user "events"`},
		{`Permissions Violation for Subscription to "_INBOX.Qz2.*" (sid "3")`,
			`Subscription to "_INBOX.>"): permit to subscribe to "_INBOX.>" for the user "events"`},
		{`Permissions Violation for Publish to "events.a"`, `Publish to "events.a"): permit to publish to "events.*" for the user "events"`},
		{`Permissions Violation for Publish to "events.a.b"`, `Publish to "events.a.b"): permit to publish to "events.a.b" for the user "events"`},
	} {
		d := Denied(plan.NATSAccess{Username: "events", Password: "hush"}, "nats://nats:4222", grants, fmt.Errorf("%w: %s", nats.ErrPermissionViolation, tt.said))
		want := "the server lets us in, but permits too little (Permissions Violation for " + tt.want
		if d == nil || d.Error() != want {
			t.Errorf("%s:\n%v, want\n%s", tt.said, d, want)
		}
	}
	if d := Denied(plan.NATSAccess{}, "", grants, nats.ErrTimeout); d != nil {
		t.Errorf("a timeout is a denial: %v", d)
	}
}
