//go:build e2e

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
	stan "github.com/nats-io/nats-streaming-server/server"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// TestE2ERotation changes the password of a bus while 1,000 events a second come in, in the plan first and at the server first in turn. The
// bus of the old password is closed and another one opened; what was answered 202 arrives.
func TestE2ERotation(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		k := servers.SecuredKafka(t)
		change := func(password string) { k.SetPassword("bus", password) }
		change("secret-0")
		rotate(t, change, func(password string) plan.Bus {
			return plan.Bus{Kafka: &plan.KafkaBus{
				KafkaAccess: plan.KafkaAccess{
					Brokers: []string{k.SASLSSL}, TLS: &plan.TLS{CACerts: k.Authority.Cert},
					SASLMechanism: "SCRAM-SHA-512", Username: "bus", Password: password,
				},
				Partitions: 3, ReplicationFactor: 1, Retention: time.Hour,
			}}
		})
	})
	t.Run("jetStream", func(t *testing.T) {
		t.Parallel()
		users := func(password string) string { return "authorization { user: bus, password: " + password + " }" }
		s := servers.JetStream(t, users("secret-0"))
		rotate(t, func(password string) { s.Reload(users(password)) }, func(password string) plan.Bus {
			return plan.Bus{JetStream: &plan.JetStream{
				URL: s.URL(), AckWait: 2 * time.Second, NATSAccess: plan.NATSAccess{Username: "bus", Password: password},
			}}
		})
	})
	t.Run("natsStreaming", func(t *testing.T) {
		t.Parallel()
		url, change := guardedNATSStreaming(t, "secret-0")
		rotate(t, change, func(password string) plan.Bus {
			return plan.Bus{NATSStreaming: &plan.NATSStreaming{
				URL: url, ClusterID: "stan", Durable: "d", Queue: true, AckWait: 2 * time.Second,
				NATSAccess: plan.NATSAccess{Username: "bus", Password: password},
			}}
		})
	})
}

// guardedNATSStreaming starts a NATS server that lets in the user bus, and a NATS Streaming server that is a client of it. The returned
// function changes the password, which sends away who had the old one.
func guardedNATSStreaming(t *testing.T, password string) (url string, change func(password string)) {
	t.Helper()
	options := func(port int, password string) *nats.Options {
		return &nats.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true, Users: []*nats.User{
			{Username: "stan", Password: "itself"}, {Username: "bus", Password: password},
		}}
	}
	port := servers.FreePort(t)
	s, err := nats.NewServer(options(port, password))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	o := stan.GetDefaultOptions()
	o.ID, o.NATSServerURL = "stan", fmt.Sprintf("nats://stan:itself@127.0.0.1:%d", port)
	o.StoreType, o.FilestoreDir, o.MaxMsgs, o.MaxBytes = "FILE", t.TempDir(), 0, 0
	ss, err := stan.RunServerWithOpts(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ss.Shutdown)
	return s.ClientURL(), func(password string) {
		if err := s.ReloadOptions(options(port, password)); err != nil {
			t.Errorf("change the password: %v", err)
		}
	}
}

func rotate(t *testing.T, change func(password string), spec func(password string) plan.Bus) {
	const seconds, perSecond, rotations = 10, 1000, 4
	var mu sync.Mutex
	received := map[string]int{}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(received)
	}
	r := startWith(t, func(o *Options) {
		o.Observe, o.Grace = nil, 20*time.Second // a connection that a client made and did not use counts for five
		o.Display = event.HandlerFunc(func(_ context.Context, e *event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			received[e.ID()]++
			return nil
		})
	})
	with := func(password string) *plan.Plan {
		p := onePath(plan.Subscriber{ID: "rotated", Condition: "a", Sink: display("each")})
		b := spec(password)
		b.Name = "bus"
		p.Buses = []plan.Bus{b}
		return p
	}
	r.apply(t, with("secret-0"))

	work := make(chan string, perSecond)
	var refused, posting = 0, sync.WaitGroup{}
	for range 64 {
		posting.Go(func() {
			for id := range work {
				for {
					code, _ := r.post("a", id)
					if code == http.StatusAccepted {
						break
					}
					mu.Lock()
					refused++
					mu.Unlock()
					if t.Context().Err() != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		defer close(work)
		ticker := time.NewTicker(time.Second / 10)
		defer ticker.Stop()
		for n := range seconds * perSecond {
			if n%(perSecond/10) == 0 {
				<-ticker.C
			}
			work <- fmt.Sprint(n)
		}
	}()
	for i := 1; i <= rotations; i++ {
		before := count()
		eventually(t, "events arrive", func() error {
			if got := count(); got < before+perSecond {
				return fmt.Errorf("%d, want %d more than %d", got, perSecond, before)
			}
			return nil
		})
		password := fmt.Sprint("secret-", i)
		first, second := func() { change(password) }, func() {
			if err := r.Apply(with(password)); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			first, second = second, first
		}
		first()
		time.Sleep(500 * time.Millisecond) // how far apart a person does the one and the other
		second()
		eventually(t, "ready with the new password", r.Ready)
	}
	<-posted
	posting.Wait()
	eventually(t, "every event arrives", func() error {
		if got := count(); got != seconds*perSecond {
			return fmt.Errorf("%d of %d", got, seconds*perSecond)
		}
		return nil
	})
	repeated := 0
	for _, n := range received {
		repeated += n - 1
	}
	t.Logf("%d events, 0 lost, %d repeated, %d refusals, %d changes of the password", seconds*perSecond, repeated, refused, rotations)
}
