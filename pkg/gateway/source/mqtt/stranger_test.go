package mqtt

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/test/servers"
)

const hangsUp = "the server ends the connection without an answer: if it wants TLS, use ssl:// in url; " +
	`if it does not speak MQTT 5, set version: "3.1.1"; if it is not an MQTT server, correct url`

// TestStrangers has something else answer where a broker should be, and then a broker.
func TestStrangers(t *testing.T) {
	for name, tt := range map[string]struct {
		scheme  string
		version int
		talk    func(net.Conn)
		want    string
	}{
		"a web server":                  {"tcp", 5, servers.Answer(servers.HTTP), "what answers there is not an MQTT server, it speaks HTTP: correct url"},
		"a web server, 3.1.1":           {"tcp", 3, servers.Answer(servers.HTTP), "what answers there is not an MQTT server, it speaks HTTP: correct url"},
		"a TLS server":                  {"tcp", 5, servers.Answer(servers.TLSAlert), "the server speaks TLS, and we do not: use ssl:// in url"},
		"who hangs up":                  {"tcp", 5, servers.Answer(""), hangsUp},
		"who hangs up at once":          {"tcp", 5, func(net.Conn) {}, hangsUp},
		"another answer":                {"tcp", 3, servers.Answer("\x90\xff\xff\xff\x7f"), "what answers there is not an MQTT server: correct url"},
		"no websocket":                  {"ws", 5, servers.Answer(servers.HTTP), "no websocket at ws://ADDRESS/mqtt: HTTP 400 Bad Request: correct url"},
		"no web server":                 {"ws", 5, servers.Answer("SSH-2.0-x\r\n"), "what answers there is not an MQTT server, it speaks SSH: correct url"},
		"no web server, but one of TLS": {"ws", 5, servers.Answer(servers.TLSAlert), "the server speaks TLS, and we do not: use wss:// in url"},
		"who hangs up on a websocket":   {"ws", 5, servers.Answer(""), strings.Replace(hangsUp, "ssl://", "wss://", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attempts := make(chan bool, 1000)
			s := servers.NewStranger(t, "127.0.0.1:0", func(c net.Conn) { attempts <- true; tt.talk(c) })
			core, logs := observer.New(zapcore.InfoLevel)
			r := startLogged(t, options(tt.scheme+"://"+s.Addr(), tt.version, 1), &runtest.Sink{}, zap.New(core).Sugar())
			if got, want := r.AwaitReady(false).Error(), "mqtt "+s.Addr()+": "+strings.Replace(tt.want, "ADDRESS", s.Addr(), 1); got != want {
				t.Errorf("ready(%s)\nwant  %s", got, want)
			}
			for range 3 {
				<-attempts
			}
			if len(r.Ready) != 0 || logs.Len() != 1 {
				t.Errorf("ready was called %d times more and %d lines were logged, want 0 and 1: %v", len(r.Ready), logs.Len(), logs.All())
			}
			s.Close()
			b := &broker{t: t, addr: s.Addr()}
			b.serve(brokerOptions{websocket: tt.scheme == "ws"})
			t.Cleanup(func() { _ = b.server.Close() })
			r.AwaitReady(true)
		})
	}
}

func TestASilentServer(t *testing.T) {
	for url, want := range map[string]string{
		"tcp://mqtt.example": "mqtt mqtt.example:1883: what answers there says nothing: if it is not an MQTT server, correct url",
		"ws://mqtt.example":  "mqtt mqtt.example:80: what answers there says nothing: if it is not an MQTT server, correct url",
		"ssl://mqtt.example": "mqtt mqtt.example:8883: the server does not answer the TLS handshake: if it speaks no TLS, use its port for TLS in url, or tcp:// and no certificates",
		"wss://mqtt.example": "mqtt mqtt.example:443: the server does not answer the TLS handshake: if it speaks no TLS, use its port for TLS in url, or ws:// and no certificates",
	} {
		synctest.Test(t, func(t *testing.T) {
			o := options(url, 5, 1)
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go servers.Silence(theirs)
				return ours, nil
			}
			r := start(t, o, &runtest.Sink{})
			if got := r.AwaitReady(false).Error(); got != want {
				t.Errorf("ready(%s)\nwant  %s", got, want)
			}
			r.End()
		})
	}
}
