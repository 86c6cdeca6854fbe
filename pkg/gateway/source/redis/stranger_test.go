package redis

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// TestStrangers has something else answer where a server of Redis should be, and then one of Redis.
func TestStrangers(t *testing.T) {
	const hangsUp = "the server ends the connection without an answer: if it wants TLS, set enableTLS to true; if it is not a Redis server, correct redisHost"
	const noTLS = "leave out enableTLS and tls, or name its port for TLS in redisHost"
	web, silent := servers.Answer(servers.HTTP), servers.Silence
	secured := func(p *plan.Redis) { p.TLS = &plan.TLS{} }
	for name, tt := range map[string]struct {
		way  string
		talk func(net.Conn)
		plan func(*plan.Redis)
		want string // after the address
	}{
		"a web server, for a stream":   {"stream", web, nil, "what answers there is not a Redis server, it speaks HTTP: correct redisHost"},
		"a web server, for a list":     {"list", web, nil, "what answers there is not a Redis server, it speaks HTTP: correct redisHost"},
		"a web server, for a channel":  {"channel", web, nil, "what answers there is not a Redis server, it speaks HTTP: correct redisHost"},
		"a web server, for a Sentinel": {"stream", web, func(p *plan.Redis) { p.MasterName = "main" }, "what answers there is not a Sentinel, it speaks HTTP: correct redisHost"},
		"a web server, for a cluster":  {"stream", web, func(p *plan.Redis) { p.Cluster = true }, "what answers there is not a Redis server, it speaks HTTP: correct redisHost"},
		"a web server, for TLS":        {"stream", web, secured, "the server speaks no TLS: " + noTLS},
		"a TLS server":                 {"stream", servers.Answer(servers.TLSAlert), nil, "the server speaks TLS, and we do not: set enableTLS to true"},
		"who hangs up":                 {"stream", servers.Answer(""), nil, hangsUp},
		"who hangs up at once":         {"stream", func(net.Conn) {}, nil, hangsUp},
		"who hangs up, for TLS":        {"stream", servers.Answer(""), secured, "the server ends the connection in the TLS handshake: if it speaks no TLS, " + noTLS},
		"a silent server":              {"stream", silent, func(p *plan.Redis) { p.ReadTimeout = 200 * time.Millisecond }, "what answers there says nothing: if it is not a Redis server, correct redisHost"},
		"a silent server, for a Sentinel": {"stream", silent, func(p *plan.Redis) { p.MasterName, p.ReadTimeout = "main", 200*time.Millisecond },
			"what answers there says nothing: if it is not a Sentinel, correct redisHost"},
		"a silent server, for TLS": {"stream", silent, func(p *plan.Redis) { secured(p); p.DialTimeout = 2 * time.Second },
			"the server does not answer the TLS handshake: if it speaks no TLS, " + noTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attempts := make(chan bool, 1000)
			s := servers.NewStranger(t, "127.0.0.1:0", func(c net.Conn) { attempts <- true; tt.talk(c) })
			o := options(tt.way, "key", s.Addr())
			if tt.plan != nil {
				tt.plan(o.Source.Redis)
			}
			core, logs := observer.New(zapcore.InfoLevel)
			r := startLogged(t, o, &runtest.Sink{}, zap.New(core).Sugar())
			if got, want := r.AwaitReady(false).Error(), "redis "+New(o).where()+": "+tt.want; got != want {
				t.Errorf("ready(%s)\nwant  %s", got, want)
			}
			tries := 3
			if strings.HasPrefix(name, "who hangs up") {
				tries = 3 * 4 // the client tries again by itself
			}
			for range tries {
				<-attempts
			}
			if len(r.Ready) != 0 || logs.Len() != 1 {
				t.Errorf("ready was called %d times more and %d lines were logged, want 0 and 1: %v", len(r.Ready), logs.Len(), logs.All())
			}
			if o.Source.Redis.TLS != nil || o.Source.Redis.Cluster || o.Source.Redis.MasterName != "" {
				return
			}
			s.Close()
			m := miniredis.NewMiniRedis()
			if err := m.StartAddr(s.Addr()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.Close)
			r.AwaitReady(true)
		})
	}
}
