package embedded

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
)

// startKafka starts a cluster. Its brokers advertise their own addresses, so that clients find them whatever name they began with.
func startKafka(n Need, dir string) (*running, error) {
	opts := []kfake.Opt{
		kfake.NumBrokers(max(1, n.Brokers)),
		kfake.AllowAutoTopicCreation(),
		kfake.DefaultNumPartitions(1),
		kfake.SeedTopics(1, n.Topics...),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(maxMessageBytes)}),
	}
	if n.Username != "" {
		opts = append(opts, kfake.EnableSASL(), kfake.Superuser(cmp.Or(n.Mechanism, "PLAIN"), n.Username, n.Password))
	}
	if dir != "" {
		opts = append(opts, kfake.DataDir(dir))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, err
	}
	addrs := cluster.ListenAddrs()
	if len(addrs) == 0 {
		cluster.Close()
		return nil, fmt.Errorf("no listener")
	}
	return &running{
		Server:   Server{Kind: n.Kind, For: n.Addresses, Address: addrs[0]},
		identity: n.identity(),
		stop: func() error {
			cluster.Close()
			return nil
		},
	}, nil
}
