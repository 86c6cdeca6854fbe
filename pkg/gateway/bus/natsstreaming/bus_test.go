package natsstreaming

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/stan.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/test/servers"
)

func newEvent(t testing.TB, id, contentType string, data []byte) *event.Event {
	t.Helper()
	var b event.Binary
	for _, a := range [][2]string{{"specversion", "1.0"}, {"id", id}, {"source", "/test"}, {"type", "test"}} {
		if err := b.Set(a[0], a[1]); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event(contentType, data)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// publish publishes as a source does: it tries again while the bus is unavailable.
func publish(t testing.TB, b bus.Bus, topic, id string) {
	t.Helper()
	if err := tryPublish(b, topic, newEvent(t, id, "text/plain", []byte(id))); err != nil {
		t.Fatal(err)
	}
}

func tryPublish(b bus.Bus, topic string, e *event.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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

// inbox is a running subscription that acknowledges what it receives.
type inbox struct {
	mu    sync.Mutex
	list  []*bus.Message
	state error
	asked bool
	stop  func() error
}

func subscribe(t testing.TB, b bus.Bus, s bus.Subscription) *inbox {
	t.Helper()
	in := startSubscription(t, b, s)
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	return in
}

func startSubscription(t testing.TB, b bus.Bus, s bus.Subscription) *inbox {
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
			m.Done(nil)
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

func (in *inbox) ids() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	var ids []string
	for _, m := range in.list {
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

func TestPlainQueueSubscriberReadsStructuredJSON(t *testing.T) {
	s := startBroker(t, "")
	got := make(chan []byte, 1)
	if _, err := client(t, s.url()).QueueSubscribe("metrics", "functions", func(m *stan.Msg) { got <- m.Data }); err != nil {
		t.Fatal(err)
	}
	b := connect(t, instance(), config(s.url()))
	e := newEvent(t, "e1", "application/json", []byte(`{"cpu":1}`))
	if err := tryPublish(b, "metrics", e); err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	data := <-got
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatalf("%s is not JSON: %v", data, err)
	}
	want := map[string]any{
		"specversion": "1.0", "id": "e1", "source": "/test", "type": "test",
		"datacontenttype": "application/json", "data": map[string]any{"cpu": 1.0},
	}
	if diff := cmp.Diff(want, members); diff != "" {
		t.Errorf("message differs (-want +got):\n%s", diff)
	}
}

func TestServerThatHasNoRoomForAnotherChannel(t *testing.T) {
	s := startBroker(t, "")
	s.stop(t)
	s.channels = 1
	s.start(t)
	b := connect(t, instance(), config(s.url()))
	publish(t, b, "one", "e1")
	err := b.Topic(bus.Topic{Name: "two"}).Handle(t.Context(), newEvent(t, "e2", "", nil))
	var away *event.Unavailable
	if !errors.As(err, &away) || !away.Full {
		t.Errorf("Handle on one channel too many = %v, want *event.Unavailable that is full", err)
	}
	publish(t, b, "one", "e3")
}

func TestReceivesWhatOthersPublish(t *testing.T) {
	const dapr = `{"id":"5929aaac","source":"producer","type":"com.dapr.event.sent","specversion":"1.0","datacontenttype":"text/plain",
		"topic":"orders","pubsubname":"eventbus","traceid":"00-1-2-00","data":"hello"}`
	tests := []struct {
		name, data         string
		wantType, wantData string
		malformed          bool
	}{
		{"a Dapr envelope is an event", dapr, "com.dapr.event.sent", "hello", false},
		{"an envelope that lacks its source is wrapped", strings.Replace(dapr, `"source":"producer",`, "", 1), bus.TypeMalformed, "", true},
		{"text is wrapped", "hello", bus.TypeMalformed, "hello", true},
		{"no bytes are wrapped", "", bus.TypeMalformed, "", true},
	}
	s := startBroker(t, "")
	b := connect(t, instance(), config(s.url()))
	in := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{"orders"}})
	for i, tt := range tests {
		publishRaw(t, s.url(), "orders", []byte(tt.data))
		eventually(t, tt.name, func() bool { return len(in.ids()) > i })
		in.mu.Lock()
		m := in.list[i]
		in.mu.Unlock()
		if m.Event.Type() != tt.wantType || (m.Malformed != nil) != tt.malformed {
			t.Errorf("%s: type %s, malformed %v; want type %s", tt.name, m.Event.Type(), m.Malformed, tt.wantType)
		}
		if got := string(m.Event.Data()); tt.wantData != "" && got != tt.wantData {
			t.Errorf("%s: data = %q, want %q", tt.name, got, tt.wantData)
		}
	}
}

func TestTooLargeForTheServerIsPermanent(t *testing.T) {
	s := launch(t, &broker{port: servers.FreePort(t), payload: 1 << 20})
	b := connect(t, instance(), config(s.url()))
	eventually(t, "the bus is ready", isReady(b))

	data := make([]byte, 900<<10)
	err := tryPublish(b, "large", newEvent(t, "e1", "application/octet-stream", data))
	if !event.IsPermanent(err) || !errors.Is(err, event.ErrTooLarge) {
		t.Fatalf("Handle(900 KiB) with a max_payload of 1 MiB = %v, want a permanent error that the event is too large", err)
	}
	if !strings.Contains(err.Error(), "max_payload of 1048576") {
		t.Errorf("Handle(900 KiB) = %v, want it to name max_payload", err)
	}
	if err := tryPublish(b, "large", newEvent(t, "e2", "text/plain", []byte("small"))); err != nil {
		t.Errorf("Handle after an event that was too large = %v, want nil", err)
	}
}

func TestTopicNames(t *testing.T) {
	tests := []struct {
		name, topic string
		ok          bool
	}{
		{"a source's topic", "openfunction.ns.es.e", true},
		{"a word", "metrics", true},
		{"nothing", "", false},
		{"a dot at the end", "a.", false},
		{"a dot at the beginning", ".a", false},
		{"an empty token", "a..b", false},
		{"a wildcard", "a.*", false},
		{"the other wildcard", "a.>", false},
		{"a slash", "a/b", false},
		{"a space", "a b", false},
	}
	b := connect(t, instance(), config("nats://127.0.0.1:1")) // no server needs to be asked
	for _, tt := range tests {
		err := b.Topic(bus.Topic{Name: tt.topic}).Handle(context.Background(), newEvent(t, "e", "", nil))
		if got := !event.IsPermanent(err); got != tt.ok {
			t.Errorf("%s: Handle on %q = %v, want permanent: %v", tt.name, tt.topic, err, !tt.ok)
		}
		if !tt.ok {
			if err := b.Subscribe(context.Background(), bus.Subscription{Name: "s", Topics: []string{tt.topic}}, nil); err == nil {
				t.Errorf("%s: Subscribe to %q = nil, want an error", tt.name, tt.topic)
			}
		}
	}
}

func TestDialerGetsTheHostName(t *testing.T) {
	s := startBroker(t, "")
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.url(), "nats://"))
	asked := make(chan string, 100)
	b := New(context.Background(), Options{Name: "bus", Config: config("nats://nats.example.invalid:" + port),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			asked <- address
			return (&net.Dialer{}).DialContext(ctx, network, strings.Replace(address, "nats.example.invalid", "127.0.0.1", 1))
		}})
	defer b.Close()
	eventually(t, "the bus is ready", isReady(b))
	if got, want := <-asked, "nats.example.invalid:"+port; got != want {
		t.Errorf("dialled %q, want %q", got, want)
	}
}

func TestOutageIsLoggedOnce(t *testing.T) {
	s := startBroker(t, t.TempDir())
	core, logs := observer.New(zap.InfoLevel)
	ctx := logging.WithLogger(context.Background(), zap.New(core).Sugar())
	b := New(ctx, Options{Name: "bus", Config: config(s.url())})
	defer b.Close()
	for range 2 {
		eventually(t, "the bus is ready", isReady(b))
		s.stop(t)
		eventually(t, "the bus is away", func() bool { return !isReady(b)() })
		time.Sleep(time.Second) // several attempts
		s.start(t)
	}
	eventually(t, "the bus is ready", isReady(b))
	var got []string
	for _, l := range logs.All() {
		got = append(got, l.Message)
	}
	away, back := "event bus is away, connecting until it is back", "event bus connected"
	if diff := cmp.Diff([]string{back, away, back, away, back}, got); diff != "" {
		t.Errorf("log differs (-want +got):\n%s", diff)
	}
}

func TestCloseInterruptsConnecting(t *testing.T) {
	dialling := make(chan struct{}, 10)
	b := New(context.Background(), Options{Name: "bus", Config: config("nats://127.0.0.1:4222"),
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialling <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	<-dialling
	begin := time.Now()
	if err := b.Close(); err != nil {
		t.Errorf("Close() = %v, want nil", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Close took %s while connecting, want a moment", took)
	}
}
