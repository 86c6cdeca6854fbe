package embedded

import (
	"net/url"
	"strings"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
	stan "github.com/nats-io/nats-streaming-server/server"
	"github.com/nats-io/nats-streaming-server/stores"

	jetstream "github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
)

// syncInterval is how often a JetStream server forces what it has to disk.
const syncInterval = time.Second

// startJetStream starts a server that looks after its disk as that of an embedded bus does.
func (s *Servers) startJetStream(n Need, dir string) (*running, error) {
	name := n.Kind + " at " + strings.Join(n.Addresses, ", ")
	server, err := jetstream.Start(jetstream.Options{
		Name: "events-embedded", Dir: dir, SyncInterval: syncInterval, Host: "127.0.0.1", Recover: true,
		Login:    jetstream.Login{Username: n.Username, Password: n.Password, Token: n.Token},
		Troubled: func(err error) { s.trouble(name, err) }, Damaged: func(err error) { s.damage(name, err) },
	})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(server.ClientURL())
	if err != nil {
		server.Close()
		return nil, err
	}
	return &running{
		Server:   Server{Kind: n.Kind, For: n.Addresses, Address: u.Host},
		identity: n.identity(),
		stop: func() error {
			server.Close()
			return nil
		},
	}, nil
}

func startNATSStreaming(n Need, dir string) (*running, error) {
	o := stan.GetDefaultOptions()
	o.ID = n.ClusterID
	o.EnableLogging = false
	// The server's defaults discard the oldest messages of a full channel: an event bus must not.
	o.MaxChannels, o.MaxSubscriptions, o.MaxMsgs, o.MaxBytes = 0, 0, 0, 0
	o.StoreType = stores.TypeMemory
	if dir != "" {
		o.StoreType, o.FilestoreDir = stores.TypeFile, dir
	}
	server, err := stan.RunServerWithOpts(o, &nats.Options{
		Host:       "127.0.0.1",
		Port:       nats.RANDOM_PORT,
		MaxPayload: maxMessageBytes,
		MaxPending: 8 * maxMessageBytes,
		NoLog:      true,
		NoSigs:     true,
	})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(server.ClientURL())
	if err != nil {
		server.Shutdown()
		return nil, err
	}
	return &running{
		Server:   Server{Kind: n.Kind, For: n.Addresses, Address: u.Host},
		identity: n.identity(),
		stop: func() error {
			server.Shutdown()
			return server.LastError()
		},
	}, nil
}
