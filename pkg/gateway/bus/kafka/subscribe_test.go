package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/bus"
)

func numbers(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(i)
	}
	return all
}

// position returns what a group has committed for a partition.
func position(t testing.TB, addr, group, topic string, partition int32) progress {
	t.Helper()
	response, err := administrator(t, addr).ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		t.Fatal(err)
	}
	block := response.GetBlock(topic, partition)
	p, _, err := parseProgress(block.Offset, block.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is done while others are held is remembered without the help of a goodbye.
func TestOnlyWhatWasInFlightComesAgain(t *testing.T) {
	b := startBroker(t)
	c := config(b.addr())
	c.Partitions = 1
	held := []string{"3", "4", "250", "499"}
	s := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	first := connect(t, c)
	in := subscribe(t, first, s, func(id string) bool { return slices.Contains(held, id) })
	publish(t, first, "topic", numbers(500)...)
	want := progress{next: 500, open: []int64{3, 4, 250, 499}}
	eventually(t, "what is done is committed", func() bool { return position(t, b.addr(), "openfunction.s", "topic", 0).Equal(want) })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(in.ids()); got != 500 {
		t.Errorf("received %d messages, want 500", got)
	}
	second := connect(t, c)
	again := subscribe(t, second, s, nil)
	publish(t, second, "topic", "last")
	again.wants(t, append(held, "last")...)
}

func TestAFailureHoldsUpNobody(t *testing.T) {
	b := startBroker(t)
	c := config(b.addr())
	c.Partitions, c.MaxInFlight = 1, 2
	k := connect(t, c)
	var mu sync.Mutex
	var order []string
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- k.Subscribe(ctx, bus.Subscription{Name: "s", Topics: []string{"topic"}, Ready: func(err error) {
			select {
			case ready <- err:
			default:
			}
		}}, func(m *bus.Message) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, m.Event.ID())
			if m.Event.ID() == "fails" && len(order) == 1 {
				m.Done(errors.New("not now"))
				return
			}
			m.Done(nil)
		})
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	publish(t, k, "topic", append([]string{"fails"}, numbers(20)...)...)
	eventually(t, "all is received", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 22 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if order[0] != "fails" || slices.Index(order[1:], "fails") < 1 {
		t.Errorf("received %v, want others between the two attempts", order)
	}
}

// Messages that fail keep their place in what is in flight, and still come again when there is no other.
func TestOnlyFailuresInFlight(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	c := config(b.addr())
	c.Partitions, c.MaxInFlight = 1, 2
	k := connect(t, c)
	in := &inbox{}
	failures := 0
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	var once sync.Once
	go func() {
		ended <- k.Subscribe(ctx, bus.Subscription{Name: "s", Topics: []string{"topic"}, Ready: func(error) { once.Do(func() { close(ready) }) }},
			func(m *bus.Message) {
				in.mu.Lock()
				defer in.mu.Unlock()
				if failures++; failures <= 4 {
					m.Done(errors.New("not now"))
					return
				}
				in.list = append(in.list, m)
				m.Done(nil)
			})
	}()
	<-ready
	publish(t, k, "topic", numbers(10)...)
	eventually(t, "all is done", func() bool { return len(in.ids()) == 10 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// More messages are held than the metadata of a commit has room for.
func TestHandingOverStopsWhenTheMetadataIsFull(t *testing.T) {
	b := startBroker(t)
	c := config(b.addr())
	c.Partitions, c.MaxInFlight = 1, 10000
	k := connect(t, c)
	const n = 4000
	var mu sync.Mutex
	hold := true
	in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"topic"}}, func(string) bool { mu.Lock(); defer mu.Unlock(); return hold })
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				if err := tryPublish(k, "topic", newEvent(t, fmt.Sprint(i), nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	const most = maxRuns / 2 // each is at most two bytes as long as they are within 16384
	eventually(t, "the metadata is full", func() bool { return len(in.ids()) == most })
	eventually(t, "it is committed", func() bool {
		return len(position(t, b.addr(), "openfunction.s", "topic", 0).open) == most
	})
	if got := len(in.ids()); got != most {
		t.Errorf("%d messages were handed over, want %d until one is done", got, most)
	}
	mu.Lock()
	hold = false
	mu.Unlock()
	for _, m := range in.got()[:most] {
		m.Done(nil)
	}
	eventually(t, "the others are received", func() bool { return len(in.ids()) == n })
}

func TestPartitionsThatComeLaterAreReadWhole(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	c := config(b.addr())
	c.Partitions = 1
	k := connect(t, c)
	s := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	in := subscribe(t, k, s, nil)
	publish(t, k, "topic", "before")
	in.wants(t, "before")
	if err := administrator(t, b.addr()).CreatePartitions("topic", 8, nil, false); err != nil {
		t.Fatal(err)
	}
	fresh := connect(t, c) // whoever has asked before does not know the new ones yet
	for i := range 64 {
		if err := tryPublish(fresh, "topic", newEvent(t, fmt.Sprint(i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all is received", func() bool { return len(in.ids()) == 65 })
}

func TestEventsThatWereDeletedAreCounted(t *testing.T) {
	b := startBroker(t)
	c := config(b.addr())
	c.Partitions = 1
	logs, seen := observer.New(zap.WarnLevel)
	k := connectLogged(t, c, zap.New(logs))
	s := bus.Subscription{Name: "s", Topics: []string{"topic"}, Grace: time.Millisecond}
	in := subscribe(t, k, s, func(id string) bool { return id == "1" })
	publish(t, k, "topic", numbers(4)...)
	eventually(t, "three are done", func() bool {
		return position(t, b.addr(), "openfunction.s", "topic", 0).Equal(progress{next: 4, open: []int64{1}})
	})
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	publish(t, k, "topic", "4", "5", "6") // 1, 4 and 5 are not done
	if err := administrator(t, b.addr()).DeleteRecords("topic", map[int32]int64{0: 6}); err != nil {
		t.Fatal(err)
	}
	subscribe(t, k, s, nil).wants(t, "6")
	lost := seen.FilterMessageSnippet("deleted before").All()
	if len(lost) != 1 || fmt.Sprint(lost[0].ContextMap()["events"]) != "3" {
		t.Errorf("logged %v, want once that 3 events were deleted", lost)
	}
}

// A topic that a subscription gives up and has again later counts from then on, as a new one does.
func TestATopicThatComesAgainBeginsAnew(t *testing.T) {
	b := startBroker(t)
	comesAgain(t, b.addr())
}

func comesAgain(t *testing.T, addr string) {
	k := connect(t, config(addr))
	s := bus.Subscription{Name: "again", Topics: []string{"again-1", "again-2"}}
	in := subscribe(t, k, s, nil)
	for _, topics := range [][]string{{"again-2"}, {"again-1", "again-2"}} {
		publish(t, k, "again-2", "kept")
		in.wants(t, "kept")
		if err := in.stop(); err != nil {
			t.Fatal(err)
		}
		publish(t, k, "again-1", "for nobody")
		s.Topics = topics
		in = subscribe(t, k, s, nil)
	}
	publish(t, k, "again-1", "from now on")
	in.wants(t, "from now on")
}

func TestUnsubscribeRemovesTheGroup(t *testing.T) {
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	s := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	in := subscribe(t, k, s, nil)
	groups := func() map[string]string {
		all, err := administrator(t, b.addr()).ListConsumerGroups()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if _, ok := groups()["openfunction.s"]; !ok {
		t.Errorf("groups %v, want openfunction.s", groups())
	}

	ctx, cancel := context.WithTimeout(context.Background(), 3*unsubscribePause)
	defer cancel()
	if err := k.Unsubscribe(ctx, s); err == nil || !strings.Contains(err.Error(), "openfunction.s") {
		t.Errorf("Unsubscribe of a group with a member = %v, want an error that names it", err)
	}
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	if err := k.Unsubscribe(context.Background(), s); err != nil {
		t.Errorf("Unsubscribe() = %v, want nil", err)
	}
	if _, ok := groups()["openfunction.s"]; ok {
		t.Errorf("groups %v, want no openfunction.s", groups())
	}
}

// A member that comes gets nothing of what others hold, and they keep it while members come and go.
func TestMembersThatComeAndGoRepeatNothing(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	c := config(b.addr())
	c.Partitions = 6
	publisher := connect(t, c)
	s := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	hold := func(id string) bool { return id == "7" || id == "8" }
	inboxes := []*inbox{subscribe(t, connect(t, c), s, hold)}
	n := 0
	send := func() {
		for range 60 {
			if err := tryPublish(publisher, "topic", newEvent(t, fmt.Sprint(n), nil)); err != nil {
				t.Fatal(err)
			}
			n++
		}
		eventually(t, "all is received", func() bool {
			total := 0
			for _, in := range inboxes {
				total += len(in.ids())
			}
			return total >= n
		})
	}
	send()
	inboxes = append(inboxes, subscribe(t, connect(t, c), s, hold))
	send()
	inboxes = append(inboxes, subscribe(t, connect(t, c), s, hold))
	send()
	if err := inboxes[2].stop(); err != nil {
		t.Fatal(err)
	}
	send()
	counts := map[string]int{}
	for i, in := range inboxes {
		if len(in.ids()) == 0 {
			t.Errorf("member %d received nothing", i)
		}
		for _, id := range in.ids() {
			counts[id]++
		}
	}
	for id, times := range counts {
		if times != 1 {
			t.Errorf("%s was received %d times, want once", id, times)
		}
	}
	if len(counts) != n {
		t.Errorf("%d messages were received, want %d", len(counts), n)
	}
	for _, m := range inboxes[0].got() { // so that nobody waits for them at the end
		m.Done(nil)
	}
}

// A right that is taken away ends no session by itself: nothing comes any more, and nobody would know why.
func TestATopicThatMayNotBeReadAnyMore(t *testing.T) {
	t.Parallel()
	b := startBroker(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "secret"), kfake.User("PLAIN", "user", "secret", rights()...))
	c := config(b.addr())
	c.SASLMechanism, c.Username, c.Password = "PLAIN", "user", "secret"
	logs, seen := observer.New(zap.WarnLevel)
	k := connectLogged(t, c, zap.New(logs))
	in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"openfunction.topic"}}, nil)
	publish(t, k, "openfunction.topic", "e1")
	in.wants(t, "e1")

	login := sarama.NewConfig()
	login.Net.SASL.Enable, login.Net.SASL.User, login.Net.SASL.Password = true, "admin", "secret"
	admin, err := sarama.NewClusterAdmin([]string{b.addr()}, login)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	resource := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: "openfunction.topic", ResourcePatternType: sarama.AclPatternLiteral}
	deny := sarama.Acl{Principal: "User:user", Host: "*", Operation: sarama.AclOperationRead, PermissionType: sarama.AclPermissionDeny}
	if err := admin.CreateACLs([]*sarama.ResourceAcls{{Resource: resource, Acls: []*sarama.Acl{&deny}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the subscription is not ready", func() bool { err := in.ready(); return err != nil && strings.Contains(err.Error(), "allow it") })
	if got := onlyLog(t, seen, "subscription is interrupted"); !strings.Contains(fmt.Sprint(got["error"]), "TOPIC_AUTHORIZATION_FAILED") {
		t.Errorf("logged %v, want the cause", got)
	}
	publish(t, k, "openfunction.topic", "e2")
	name := "openfunction.topic"
	if _, err := admin.DeleteACL(sarama.AclFilter{
		ResourceType: sarama.AclResourceTopic, ResourceName: &name, ResourcePatternTypeFilter: sarama.AclPatternLiteral,
		Operation: sarama.AclOperationAny, PermissionType: sarama.AclPermissionDeny,
	}, false); err != nil {
		t.Fatal(err)
	}
	in.wants(t, "e1", "e2")
	eventually(t, "the subscription is ready again", func() bool { return in.ready() == nil })
}
