package kafka

import (
	"net"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/test/servers"
)

// TestStrangers has something else answer where a broker should be, and then a broker.
func TestStrangers(t *testing.T) {
	t.Parallel()
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
			port := servers.FreePort(t)
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			attempts := make(chan bool, 1000)
			stranger := servers.NewStranger(t, address, func(c net.Conn) { attempts <- true; tt.talk(c) })
			core, logs := observer.New(zapcore.InfoLevel)
			s := &runtest.Sink{}
			r := startLogged(t, options("t", address), s, zap.New(core).Sugar())
			if got, want := r.AwaitReady(false).Error(), "kafka "+address+": "+tt.want; got != want {
				t.Errorf("ready(%s)\nwant  %s", got, want)
			}
			for range 9 { // it is asked four times each time
				<-attempts
			}
			if len(r.Ready) != 0 || logs.Len() != 1 {
				t.Errorf("ready was called %d times more and %d lines were logged, want 0 and 1: %v", len(r.Ready), logs.Len(), logs.All())
			}
			stranger.Close()
			cluster(t, kfake.Ports(port), kfake.SeedTopics(1, "t"))
			r.AwaitReady(true)
			produce(t, client(t, address), "t", 0, "hello")
			s.Await(t, "hello")
			if got := logs.All()[logs.Len()-1].Message; got != "kafka topic is read again" {
				t.Errorf("logged %s at last", got)
			}
		})
	}
}
