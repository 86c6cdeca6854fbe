package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
	"github.com/openfunction/events/test/servers"
)

// refuse makes the broker answer with an error every commit that has a partition for which refused is true. count is of those.
func (b *broker) refuse(answer *kerr.Error, refused func(kmsg.OffsetCommitRequestTopicPartition) bool) (count func() int) {
	var mu sync.Mutex
	n := 0
	b.cluster.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		req := r.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		any := false
		for _, t := range req.Topics {
			topic := kmsg.NewOffsetCommitResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				any = any || refused(p)
				partition := kmsg.NewOffsetCommitResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, answer.Code
				topic.Partitions = append(topic.Partitions, partition)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		if !any {
			return nil, nil, false
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		return resp, nil, true
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// onlyLog returns the fields of the only line with a message like this, and fails the test if there is not exactly one.
func onlyLog(t testing.TB, seen *observer.ObservedLogs, snippet string) map[string]any {
	t.Helper()
	eventually(t, fmt.Sprintf("%q is logged", snippet), func() bool { return seen.FilterMessageSnippet(snippet).Len() > 0 })
	lines := seen.FilterMessageSnippet(snippet).All()
	if len(lines) > 1 {
		t.Errorf("logged %d times %q, want once", len(lines), snippet)
	}
	return lines[0].ContextMap()
}

const (
	shortened    = "take less metadata"
	fullAgain    = "take all metadata of offsets again"
	notCommitted = "offsets cannot be committed"
	nowCommitted = "offsets are committed again"
)

// A broker that takes less metadata than we have still gets to know how far the subscription is.
func TestMetadataThatIsTooLarge(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	b.refuse(kerr.OffsetMetadataTooLarge, func(p kmsg.OffsetCommitRequestTopicPartition) bool {
		return p.Metadata != nil && len(*p.Metadata) > 64
	})
	littleMetadata(t, b.addr(), func() { b.stop(t); b.start(t) })
}

// littleMetadata wants a broker that takes 64 bytes of metadata, and Kafka's default after restart.
func littleMetadata(t *testing.T, addr string, restart func()) {
	c := config(addr)
	c.Partitions = 1
	s := bus.Subscription{Name: "little", Topics: []string{"little"}, Grace: time.Millisecond}
	committed := func(want int64) func() bool {
		return func() bool { at := position(t, addr, "openfunction.little", "little", 0); return at.offset() == want }
	}
	logs, seen := observer.New(zap.InfoLevel)
	first := connectLogged(t, c, zap.New(logs))
	in := subscribe(t, first, s, func(string) bool { return true })
	publish(t, first, "little", numbers(200)...)
	eventually(t, "all is received", func() bool { return len(in.ids()) == 200 })
	var held []string // each takes a byte, and four take three
	for i, m := range in.got() {
		if i < 50 || i%2 == 1 {
			m.Done(nil)
		} else {
			held = append(held, m.Event.ID())
		}
	}
	eventually(t, "the offset before which all is done is committed", committed(50))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	got := onlyLog(t, seen, shortened)
	want := map[string]any{"bus": "EventBus default/default", "subscription": "little", "topic": "little", "partition": int32(0), "bytes": got["bytes"]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("logged fields differ (-want +got):\n%s", diff)
	}

	logs, seen = observer.New(zap.InfoLevel)
	second := connectLogged(t, c, zap.New(logs))
	again := subscribe(t, second, s, func(id string) bool { return slices.Contains(held, id) })
	publish(t, second, "little", "last")
	eventually(t, "the last one is received", func() bool { return slices.Contains(again.ids(), "last") })
	ids := again.ids()
	for i := range 52 {
		if id := fmt.Sprint(i); id != "50" && slices.Contains(ids, id) {
			t.Errorf("received %s again, which was done, and the commit has room to say so", id)
		}
	}
	for _, id := range held {
		if !slices.Contains(ids, id) {
			t.Errorf("%s did not come again, and was not done", id)
		}
	}
	onlyLog(t, seen, shortened)
	restart()
	eventually(t, "all metadata is taken again", func() bool {
		publish(t, second, "little", "more") // there is something to commit
		return seen.FilterMessageSnippet(fullAgain).Len() > 0
	})
	for _, m := range again.got() {
		m.Done(nil)
	}
	eventually(t, "all is committed", func() bool {
		at := position(t, addr, "openfunction.little", "little", 0)
		return at.next > 201 && len(at.open) == 0
	})
	onlyLog(t, seen, shortened)
	onlyLog(t, seen, fullAgain)
}

func TestCommitsThatAreRefusedAreTold(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	var mu sync.Mutex
	refusing := false
	refuse := func(yes bool) { mu.Lock(); defer mu.Unlock(); refusing = yes }
	count := b.refuse(kerr.TopicAuthorizationFailed, func(kmsg.OffsetCommitRequestTopicPartition) bool { mu.Lock(); defer mu.Unlock(); return refusing })
	c := config(b.addr())
	c.Partitions = 1
	logs, seen := observer.New(zap.InfoLevel)
	k := connectLogged(t, c, zap.New(logs))
	in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"topic"}}, nil)
	refuse(true)
	publish(t, k, "topic", "e1")
	in.wants(t, "e1")
	eventually(t, "several commits are refused", func() bool { return count() > 3 })
	got := onlyLog(t, seen, notCommitted)
	if cause := fmt.Sprint(got["error"]); !strings.Contains(cause, "TOPIC_AUTHORIZATION_FAILED") || !strings.Contains(cause, "allow it") {
		t.Errorf("error %q, want the cause and the cure", cause)
	}
	delete(got, "error")
	want := map[string]any{"bus": "EventBus default/default", "subscription": "s", "topic": "topic", "partition": int32(0)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("logged fields differ (-want +got):\n%s", diff)
	}
	refuse(false)
	onlyLog(t, seen, nowCommitted)
	eventually(t, "it is committed", func() bool { return position(t, b.addr(), "openfunction.s", "topic", 0).Equal(progress{next: 1}) })
	if n := seen.FilterMessageSnippet(notCommitted).Len(); n != 1 {
		t.Errorf("logged %d times that commits fail, want once", n)
	}
}

// What passes is not worth a line, even when nothing comes after it.
func TestCommitsThatFailForAMoment(t *testing.T) {
	t.Parallel()
	for _, answer := range []*kerr.Error{kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.CoordinatorNotAvailable} {
		t.Run(answer.Message, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t)
			logs, seen := observer.New(zap.InfoLevel)
			k := connectLogged(t, config(b.addr()), zap.New(logs))
			in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"topic"}}, nil)
			began := time.Now()
			count := b.refuse(answer, func(kmsg.OffsetCommitRequestTopicPartition) bool { return true })
			publish(t, k, "topic", "e1")
			in.wants(t, "e1")
			eventually(t, "several commits are refused", func() bool { return count() > 3 })
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			if n := seen.FilterMessageSnippet(notCommitted).Len(); n > 0 && time.Since(began) < kafkaclient.Patience {
				t.Errorf("logged %d times that commits fail, want never", n)
			}
		})
	}
}

// A coordinator that goes away as a session ends has a successor, which takes the last commit.
func TestTheLastCommitGoesToTheNextCoordinator(t *testing.T) {
	t.Parallel()
	b := startBroker(t, kfake.NumBrokers(3), kfake.Ports(servers.FreePort(t), servers.FreePort(t), servers.FreePort(t)))
	const gone = 0
	for b.cluster.CoordinatorFor("openfunction.s") != gone {
		b.cluster.RehashCoordinators()
	}
	c := config("")
	c.Brokers, c.Partitions = b.cluster.ListenAddrs(), 1
	logs, seen := observer.New(zap.InfoLevel)
	k := connectLogged(t, c, zap.New(logs))
	in := subscribe(t, k, bus.Subscription{Name: "s", Topics: []string{"topic"}}, func(string) bool { return true })
	publish(t, k, "topic", "e1")
	in.wants(t, "e1")

	b.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		return nil, errors.New("it hangs up"), b.cluster.CurrentNode() == gone
	})
	if err := b.cluster.RemoveNode(gone); err != nil {
		t.Fatal(err)
	}
	in.got()[0].Done(nil)
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	if at := position(t, b.cluster.ListenAddrs()[0], "openfunction.s", "topic", 0); !at.Equal(progress{next: 1}) {
		t.Errorf("committed %+v, want what is done", at)
	}
	if n := seen.FilterMessageSnippet(notCommitted).Len(); n > 0 {
		t.Errorf("logged %d times that commits fail, want never", n)
	}
}
