package embedded

import (
	"cmp"
	"log/slog"
	"math"
	"net"
	"net/url"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/openfunction/events/pkg/plan"
)

var mqttPorts = map[string]string{"tcp": "1883", "mqtt": "1883", "ssl": "8883", "tls": "8883", "mqtts": "8883", "ws": "80", "wss": "443"}

// mqttNeed is empty for a URL that cannot be read: the gateway reports that.
func mqttNeed(m *plan.MQTT) Need {
	u, err := url.Parse(m.URL)
	if err != nil || u.Hostname() == "" {
		return Need{}
	}
	n := Need{Kind: MQTT, Username: m.Username, Password: m.Password}
	if n.Username == "" && u.User != nil {
		n.Username = u.User.Username()
		n.Password, _ = u.User.Password()
	}
	n.Elsewhere = m.TLS != nil || mqttPorts[u.Scheme] != "1883"
	n.Addresses = []string{Normal(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), mqttPorts[u.Scheme])))}
	return n
}

// startMQTT starts a broker of versions 5 and 3.1.1. It has no files: its sessions end with it. It acknowledges a message before it looks who
// gets it, so it may lose one that comes while the session of its subscriber passes from one connection to the next.
func startMQTT(n Need) (*running, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	capabilities := mochi.NewDefaultServerCapabilities()
	capabilities.MaximumInflight, capabilities.MaximumClientWritesPending = math.MaxUint16, math.MaxUint16
	server := mochi.New(&mochi.Options{Capabilities: capabilities, Logger: slog.New(slog.DiscardHandler)})
	rule := auth.AuthRule{Allow: true}
	if n.Username != "" {
		rule.Username, rule.Password = auth.RString(n.Username), auth.RString(n.Password)
	}
	ledger := &auth.Ledger{Auth: auth.AuthRules{rule}}
	for _, start := range []func() error{
		func() error { return server.AddHook(new(auth.Hook), &auth.Options{Ledger: ledger}) },
		func() error { return server.AddHook(new(noQuota), nil) },
		func() error { return server.AddListener(listeners.NewNet("events", listener)) },
		server.Serve,
	} {
		if err := start(); err != nil {
			_ = listener.Close()
			return nil, err
		}
	}
	return &running{
		Server:   Server{Kind: n.Kind, For: n.Addresses, Address: listener.Addr().String()},
		identity: n.identity(),
		stop:     server.Close,
	}, nil
}

// noQuota has the broker send without regard to a client's receive maximum: it miscounts, and stops for good after so many messages.
type noQuota struct{ mochi.HookBase }

// Provides tells which events the hook is for.
func (*noQuota) Provides(b byte) bool { return b == mochi.OnConnect }

// OnConnect takes the limit away.
func (*noQuota) OnConnect(c *mochi.Client, _ packets.Packet) error {
	c.Properties.Props.ReceiveMaximum = 0
	c.State.Inflight.ResetSendQuota(0)
	return nil
}
