package embedded

import (
	"net"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// startRedis starts a server, which also answers as a cluster of one, and a Sentinel that knows it if that is what is wanted. It has no
// files: its data ends with it.
func startRedis(n Need) (*running, error) {
	m := miniredis.NewMiniRedis()
	authenticate(m, n.Username, n.Password)
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return nil, err
	}
	address, stop := m.Addr(), m.Close
	if n.Sentinel != nil {
		s, err := startSentinel(n.Sentinel, m.Addr())
		if err != nil {
			m.Close()
			return nil, err
		}
		address, stop = s.Addr(), func() {
			s.Close()
			m.Close()
		}
	}
	return &running{
		Server:   Server{Kind: n.Kind, For: n.Addresses, Address: address},
		identity: n.identity(),
		stop: func() error {
			stop()
			return nil
		},
	}, nil
}

func startSentinel(want *Sentinel, master string) (*miniredis.Miniredis, error) {
	m := miniredis.NewMiniRedis()
	authenticate(m, want.Username, want.Password)
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return nil, err
	}
	err = m.Server().Register("SENTINEL", func(c *server.Peer, _ string, args []string) {
		if len(args) != 2 || !strings.EqualFold(args[0], "get-master-addr-by-name") {
			c.WriteLen(0) // there are no other Sentinels and no replicas
			return
		}
		if args[1] != want.Master {
			c.WriteLen(-1)
			return
		}
		c.WriteStrings([]string{host, port})
	})
	return m, err
}

func authenticate(m *miniredis.Miniredis, username, password string) {
	switch {
	case username != "":
		m.RequireUserAuth(username, password)
	case password != "":
		m.RequireAuth(password)
	}
}
