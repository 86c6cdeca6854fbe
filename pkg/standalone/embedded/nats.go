package embedded

import (
	"fmt"
	"net/url"

	nats "github.com/nats-io/nats-server/v2/server"
	stan "github.com/nats-io/nats-streaming-server/server"
	"github.com/nats-io/nats-streaming-server/stores"
)

func startJetStream(n Need, dir string) (*running, error) {
	server, err := nats.NewServer(&nats.Options{
		ServerName:    "events-embedded",
		Host:          "127.0.0.1",
		Port:          nats.RANDOM_PORT,
		JetStream:     true,
		StoreDir:      dir,
		MaxPayload:    maxMessageBytes,
		MaxPending:    8 * maxMessageBytes,
		Username:      n.Username,
		Password:      n.Password,
		Authorization: n.Token,
		NoLog:         true,
		NoSigs:        true,
	})
	if err != nil {
		return nil, err
	}
	server.Start()
	if !server.ReadyForConnections(startTimeout) {
		server.Shutdown()
		return nil, fmt.Errorf("not ready after %s", startTimeout)
	}
	return &running{
		Server:   Server{Kind: n.Kind, For: n.Addresses, Address: server.Addr().String()},
		identity: n.identity(),
		stop: func() error {
			server.Shutdown()
			server.WaitForShutdown()
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
