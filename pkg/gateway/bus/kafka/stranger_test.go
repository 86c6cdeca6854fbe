package kafka

import (
	"errors"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/test/servers"
)

// TestStrangers has something else answer where a broker should be, and then a broker.
func TestStrangers(t *testing.T) {
	for name, tt := range map[string]struct {
		talk func(net.Conn)
		want string
	}{
		"a web server": {servers.Answer(servers.HTTP), "what answers there is not a Kafka broker, it speaks HTTP: correct brokers"},
		"a TLS server": {servers.Answer(servers.TLSAlert), "the broker speaks TLS, and we do not: set tls, or correct the port in brokers"},
		"who hangs up": {func(net.Conn) {}, "the broker ends the connection without an answer: if it wants TLS, set tls, or correct the port in brokers; if it wants a user, set authRequired; if it is not a Kafka broker, correct brokers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &broker{port: servers.FreePort(t)}
			b.options = []kfake.Opt{kfake.NumBrokers(1), kfake.Ports(b.port)}
			attempts := make(chan bool, 1000)
			stranger := servers.NewStranger(t, b.addr(), func(c net.Conn) { attempts <- true; tt.talk(c) })
			core, logs := observer.New(zap.InfoLevel)
			k := connectLogged(t, config(b.addr()), zap.New(core))
			want := "EventBus default/default is unavailable: kafka " + b.addr() + ": " + tt.want
			for range 4 {
				<-attempts
				var err error
				eventually(t, want, func() bool { err = k.Ready(); return !errors.Is(err, bus.ErrConnecting) })
				if err == nil || err.Error() != want {
					t.Errorf("Ready() = %v\nwant %s", err, want)
				}
			}
			if logs.Len() != 1 {
				t.Errorf("%d lines were logged, want 1: %v", logs.Len(), logs.All())
			}
			stranger.Close()
			b.start(t)
			t.Cleanup(func() { b.stop(t) })
			publish(t, k, "topic", "e")
			if err := k.Ready(); err != nil {
				t.Errorf("with a broker: Ready() = %v, want nil", err)
			}
		})
	}
}
