package jetstream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

func TestAServerThatCannotHaveTheStreamIsToldWithTheCure(t *testing.T) {
	bare := func(o *server.Options) string {
		o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("the server is not ready")
		}
		return s.ClientURL()
	}
	single := bare(&server.Options{JetStream: true, StoreDir: t.TempDir()})
	taken := bare(&server.Options{JetStream: true, StoreDir: t.TempDir()})
	nc, err := nats.Connect(taken)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "theirs", Subjects: []string{"openfunction.>"}}); err != nil {
		t.Fatal(err)
	}
	account := server.NewAccount("a") // to which the server gives no JetStream
	for name, tt := range map[string]struct {
		config plan.JetStream
		cure   string
	}{
		"no JetStream": {plan.JetStream{URL: bare(&server.Options{})}, "jetstream {} in the server's configuration"},
		"no JetStream for the account": {plan.JetStream{
			URL: bare(&server.Options{
				JetStream: true, StoreDir: t.TempDir(), Accounts: []*server.Account{account}, Users: []*server.User{{Username: "u", Password: "p", Account: account}},
			}),
			NATSAccess: plan.NATSAccess{Username: "u", Password: "p"},
		}, "for the account of the bus"},
		"too many replicas":      {plan.JetStream{URL: single, Replicas: 3}, "set spec.jetStream.replicas to 1"},
		"subjects of a person's": {plan.JetStream{URL: taken}, "another stream has some of its subjects"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, jetstream.Options{Name: "EventBus a/b", Config: tt.config})
			var said error
			for end := time.Now().Add(30 * time.Second); said == nil || !strings.Contains(said.Error(), tt.cure); time.Sleep(5 * time.Millisecond) {
				if said = b.Ready(); time.Now().After(end) {
					t.Fatalf("Ready() = %v, want that it says %q", said, tt.cure)
				}
			}
		})
	}
}
