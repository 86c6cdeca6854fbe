package kafka

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

const deadline = 90 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", deadline, what)
		}
	}
}

// broker is a Kafka in this process, which keeps its port and its data when it is stopped and started again.
type broker struct {
	options []kfake.Opt
	port    int
	cluster *kfake.Cluster
	led     atomic.Pointer[map[int32]bool] // see leads
}

func startBroker(t testing.TB, options ...kfake.Opt) *broker {
	t.Helper()
	b := &broker{port: servers.FreePort(t)}
	b.options = append([]kfake.Opt{kfake.NumBrokers(1), kfake.Ports(b.port), kfake.DataDir(t.TempDir())}, options...)
	b.start(t)
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *broker) start(t testing.TB) {
	t.Helper()
	cluster, err := kfake.NewCluster(b.options...)
	if err != nil {
		t.Fatalf("start kafka: %v", err)
	}
	b.cluster = cluster
}

func (b *broker) stop(testing.TB) { b.cluster.Close() }

func (b *broker) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

func config(addr string) plan.KafkaBus {
	return plan.KafkaBus{KafkaAccess: plan.KafkaAccess{Brokers: []string{addr}}, Partitions: 3, ReplicationFactor: 1, Retention: time.Hour}
}

func connect(t testing.TB, c plan.KafkaBus) *Bus { return connectLogged(t, c, zap.NewNop()) }

func connectLogged(t testing.TB, c plan.KafkaBus, log *zap.Logger) *Bus {
	b := New(logging.WithLogger(context.Background(), log.Sugar()), Options{Name: "EventBus default/default", Config: c, Instance: "test-0"})
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func newEvent(t testing.TB, id string, data []byte, attributes ...string) *event.Event {
	t.Helper()
	var b event.Binary
	for _, a := range append([]string{"specversion=1.0", "id=" + id, "source=/test", "type=test"}, attributes...) {
		name, value, _ := strings.Cut(a, "=")
		if err := b.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event("text/plain", data)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// publish publishes as a source does: it tries again while the bus is unavailable.
func publish(t testing.TB, b bus.Bus, topic string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := tryPublish(b, topic, newEvent(t, id, []byte(id), "partitionkey=k")); err != nil {
			t.Fatal(err)
		}
	}
}

func tryPublish(b bus.Bus, topic string, e *event.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for {
		err := b.Topic(bus.Topic{Name: topic}).Handle(ctx, e)
		var away *event.Unavailable
		if err == nil || !errors.As(err, &away) || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// tryOnce publishes on the topic "topic".
func tryOnce(t testing.TB, b bus.Bus, e *event.Event) error {
	return b.Topic(bus.Topic{Name: "topic"}).Handle(t.Context(), e)
}

// inbox is a running subscription. It acknowledges what it receives, but for what keep is true of.
type inbox struct {
	mu    sync.Mutex
	list  []*bus.Message
	state error
	asked bool
	stop  func() error
}

func subscribe(t testing.TB, b bus.Bus, s bus.Subscription, keep func(id string) bool) *inbox {
	t.Helper()
	in := start(t, b, s, keep)
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	return in
}

func start(t testing.TB, b bus.Bus, s bus.Subscription, keep func(id string) bool) *inbox {
	in := &inbox{}
	s.Ready = func(err error) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.asked, in.state = true, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Subscribe(ctx, s, func(m *bus.Message) {
			in.mu.Lock()
			in.list = append(in.list, m)
			in.mu.Unlock()
			if keep == nil || !keep(m.Event.ID()) {
				m.Done(nil)
			}
		})
	}()
	in.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = in.stop() })
	return in
}

func (in *inbox) ready() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.asked {
		return errors.New("nothing reported yet")
	}
	return in.state
}

func (in *inbox) got() []*bus.Message {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]*bus.Message(nil), in.list...)
}

func (in *inbox) ids() []string {
	ids := []string{}
	for _, m := range in.got() {
		ids = append(ids, m.Event.ID())
	}
	return ids
}

func (in *inbox) wants(t testing.TB, ids ...string) {
	t.Helper()
	eventually(t, strings.Join(ids, ", ")+" received", func() bool { return len(in.ids()) >= len(ids) })
	if diff := cmp.Diff(ids, in.ids()); diff != "" {
		t.Errorf("received differs (-want +got):\n%s", diff)
	}
}

// client returns a plain Kafka client.
func client(t testing.TB, addr string) sarama.Client {
	t.Helper()
	return clientOf(t, config(addr).KafkaAccess)
}

func clientOf(t testing.TB, access plan.KafkaAccess) sarama.Client {
	t.Helper()
	c, err := kafkaclient.Config(access, "test", kafkaclient.NewDialer(nil))
	if err != nil {
		t.Fatal(err)
	}
	c.Producer.Return.Successes = true
	c.Producer.MaxMessageBytes = 8 << 20
	c.Metadata.Full = true // for who looks at topics that it does not use
	cl, err := sarama.NewClient(access.Brokers, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}
