// Command bus is a server of an EventBus with spec.embedded, in a pod: JetStream, alone or as a member of a cluster.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// env is what the pod says.
type env struct {
	// PodName is the name of the server, which stays as its volume does.
	PodName string `envconfig:"POD_NAME" required:"true"`
	// DataDir is where its volume is mounted.
	DataDir string `envconfig:"DATA_DIR" required:"true"`
	// AccessDir is where the Secret is mounted, with the keys username, password, ca.crt, tls.crt and tls.key.
	AccessDir string `envconfig:"ACCESS_DIR" required:"true"`
	// Cluster is the name of the cluster, and Members are host:port of all its members; a server without is alone.
	Cluster string   `envconfig:"CLUSTER"`
	Members []string `envconfig:"MEMBERS"`
	// Listen is the address for clients, ClusterListen that for other members, and AdminListen that of probes.
	Listen        string `envconfig:"LISTEN" default:":4222"`
	ClusterListen string `envconfig:"CLUSTER_LISTEN" default:":6222"`
	AdminListen   string `envconfig:"ADMIN_LISTEN" default:":8081"`
	// SyncInterval is how often what was written is forced to disk; 0 is before every acknowledgement.
	SyncInterval time.Duration `envconfig:"SYNC_INTERVAL" default:"1s"`
	// MaxBytes bounds what is on the volume; 0 is no bound.
	MaxBytes int64 `envconfig:"MAX_BYTES"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `envconfig:"LOG_LEVEL" default:"info"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var e env
	err := envconfig.Process("", &e)
	if err == nil {
		err = run(ctx, e)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bus:", err)
		os.Exit(1)
	}
}
