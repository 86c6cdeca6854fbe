package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/kafkaclient"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/test/servers"
)

// cluster is an in-process Kafka with one broker.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestNewGroupBeginsAtItsFirstReady(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(2, "t"))
	cl := client(t, c.ListenAddrs()...)
	produce(t, cl, "t", 0, "before")

	first := start(t, options("t", c.ListenAddrs()...), &runtest.Sink{})
	first.AwaitReady(true)
	if got := committed(t, cl, "group-t", "t", 0); got != 1 {
		t.Errorf("committed %d before ready, want 1", got)
	}
	if got := committed(t, cl, "group-t", "t", 1); got != 0 {
		t.Errorf("committed %d for the empty partition, want 0", got)
	}
	first.End()
	produce(t, cl, "t", 0, "while it was away")
	produce(t, cl, "t", 1, "on the empty partition")

	s := &runtest.Sink{}
	start(t, options("t", c.ListenAddrs()...), s)
	s.Await(t, "while it was away", "on the empty partition")
	if s.Count("before") != 0 {
		t.Error("read what was there before the group was")
	}
}

func TestFromOldestBeginsAtTheOldest(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "t"))
	produce(t, client(t, c.ListenAddrs()...), "t", 0, "before")
	o := options("t", c.ListenAddrs()...)
	o.Source.Kafka.FromOldest = true
	s := &runtest.Sink{}
	start(t, o, s)
	s.Await(t, "before")
}

func TestTopicThatComesLaterIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	s := &runtest.Sink{}
	r := start(t, options("late", c.ListenAddrs()...), s)
	if err := r.AwaitReady(false); !strings.HasPrefix(err.Error(), "topic late does not exist on ") || !strings.HasSuffix(err.Error(), ": create it, or correct topic") {
		t.Errorf("ready(%v), want that the topic does not exist", err)
	}
	cl := client(t, c.ListenAddrs()...)
	admin, err := sarama.NewClusterAdminFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	if topics, _ := admin.ListTopics(); len(topics) != 0 {
		t.Errorf("the source created %v", topics)
	}
	if err := admin.CreateTopic("late", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "late", 0, "first")
	s.Await(t, "first")
	r.AwaitReady(true)
}

func TestPartitionThatComesLaterIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, c.ListenAddrs()...)
	produce(t, cl, "t", 0, "before")
	r := start(t, options("t", c.ListenAddrs()...), &runtest.Sink{})
	r.AwaitReady(true)
	r.End()
	admin, err := sarama.NewClusterAdminFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.CreatePartitions("t", 2, nil, false); err != nil {
		t.Fatal(err)
	}
	if err := cl.RefreshMetadata("t"); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "t", 1, "on the new partition")
	s := &runtest.Sink{}
	start(t, options("t", c.ListenAddrs()...), s)
	s.Await(t, "on the new partition")
	if s.Count("before") != 0 {
		t.Error("read what was there before the group was")
	}
}

func TestNewTopicOfAGroupThatHasMembersBegins(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "one", "two"))
	cl := client(t, c.ListenAddrs()...)
	produce(t, cl, "two", 0, "before")
	one, two := options("one", c.ListenAddrs()...), options("two", c.ListenAddrs()...)
	one.Source.Kafka.ConsumerGroup, two.Source.Kafka.ConsumerGroup = "shared", "shared"
	s1, s2 := &runtest.Sink{}, &runtest.Sink{}
	start(t, one, s1).AwaitReady(true)
	start(t, two, s2).AwaitReady(true)
	produce(t, cl, "one", 0, "1")
	produce(t, cl, "two", 0, "2")
	s1.Await(t, "1")
	s2.Await(t, "2")
	if s2.Count("before") != 0 {
		t.Error("read what was there before the group was")
	}
}

func TestRestartRepeatsOnlyWhatWasNotTaken(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, c.ListenAddrs()...)
	first := &runtest.Sink{Refuse: func(data string) error {
		if data == "bad" {
			return errors.New("boom")
		}
		return nil
	}}
	r := start(t, options("t", c.ListenAddrs()...), first)
	r.AwaitReady(true)
	produce(t, cl, "t", 0, "a", "b", "bad", "c")
	first.Await(t, "a", "b", "c")
	r.End()
	if got := committed(t, cl, "group-t", "t", 0); got != 2 {
		t.Errorf("committed %d, want 2: what is before the record that was not taken", got)
	}
	second := &runtest.Sink{}
	start(t, options("t", c.ListenAddrs()...), second)
	second.Await(t, "bad", "c")
	if second.Count("a")+second.Count("b") != 0 {
		t.Errorf("repeated %v", second.Data())
	}
}

func TestRunWaitsForWhatIsInFlight(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, c.ListenAddrs()...)
	running, release := make(chan struct{}), make(chan struct{})
	s := &runtest.Sink{Refuse: func(string) error {
		close(running)
		<-release
		return nil
	}}
	r := start(t, options("t", c.ListenAddrs()...), s)
	r.AwaitReady(true)
	produce(t, cl, "t", 0, "x")
	<-running
	r.Stop()
	close(release)
	r.End()
	if got := committed(t, cl, "group-t", "t", 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
}

func TestEveryConnectionIsDialed(t *testing.T) {
	t.Parallel()
	const partitions = 48 // whose leaders are chosen at random: each of three brokers leads some
	c := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(partitions, "t"))
	cl := client(t, c.ListenAddrs()...)
	var mu sync.Mutex
	dialed := map[string]bool{}
	// The only broker that is known beforehand has another name here than the one that it advertises.
	o := options("t", "kafka.example:9092")
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		dialed[address] = true
		mu.Unlock()
		if address == "kafka.example:9092" {
			address = c.ListenAddrs()[0]
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	s := &runtest.Sink{}
	start(t, o, s).AwaitReady(true)
	var values []string
	for p := range int32(partitions) {
		values = append(values, strconv.Itoa(int(p)))
		produce(t, cl, "t", p, values[p])
	}
	s.Await(t, values...)
	mu.Lock()
	defer mu.Unlock()
	for _, address := range append(c.ListenAddrs(), "kafka.example:9092") {
		if !dialed[address] {
			t.Errorf("%s was not dialed; dialed %v", address, dialed)
		}
	}
}

func TestSASL(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser(mechanism, "user", "secret"))
			o := options("t", c.ListenAddrs()...)
			o.Source.Kafka.SASLMechanism, o.Source.Kafka.Username, o.Source.Kafka.Password = mechanism, "user", "secret"
			start(t, o, &runtest.Sink{}).AwaitReady(true)
			o.Source.Kafka.Password = "wrong"
			start(t, o, &runtest.Sink{}).AwaitReady(false)
		})
	}
}

func TestRunReturnsWhatOnlyConfigurationCures(t *testing.T) {
	tests := []struct {
		name string
		spec func(o *Options)
		want string
	}{
		{"an unknown SASL mechanism", func(o *Options) { o.Source.Kafka.SASLMechanism = "GSSAPI" }, `SASL mechanism "GSSAPI"`},
		{"SASL without a user", func(o *Options) { o.Source.Kafka.SASLMechanism = "PLAIN" }, "User must not be empty"},
		{"no brokers", func(o *Options) { o.Source.Kafka.Brokers = nil }, "at least one broker"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options("t", "127.0.0.1:1")
			tt.spec(&o)
			err := New(o).Run(t.Context(), &runtest.Sink{}, func(err error) { t.Errorf("ready(%v)", err) })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Run() = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestBrokerThatIsAwayIsSaidOnce(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	port := servers.FreePort(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s := &runtest.Sink{}
	r := startLogged(t, options("t", address), s, zap.New(core).Sugar())
	if err := r.AwaitReady(false); !strings.Contains(err.Error(), address) {
		t.Errorf("ready(%v), want the broker's address", err)
	}
	c := cluster(t, kfake.Ports(port), kfake.SeedTopics(1, "t"))
	r.AwaitReady(true)
	c.Close()
	r.AwaitReady(false)
	c = cluster(t, kfake.Ports(port), kfake.SeedTopics(1, "t"))
	r.AwaitReady(true)
	produce(t, client(t, c.ListenAddrs()...), "t", 0, "x")
	s.Await(t, "x")
	r.End()
	if n := len(r.Ready); n != 0 {
		t.Errorf("ready was called %d times more, the first with %v", n, <-r.Ready)
	}
	var got []string
	for _, entry := range logs.All() {
		got = append(got, entry.Message)
	}
	want := []string{ // another broker, which knows nothing of before
		"kafka is away, trying again", "kafka topic is read again", "kafka is away, trying again",
		"the topic was removed and made again, and is read from its beginning", "kafka topic is read again",
	}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func TestOffsetsThatAreGoneDoNotStopThePartition(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, c.ListenAddrs()...)
	produce(t, cl, "t", 0, "a", "b")
	admin, err := sarama.NewClusterAdminFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	// As after the topic was deleted and created again.
	lost := map[string]map[int32]sarama.OffsetAndMetadata{"t": {0: {Offset: 5000, LeaderEpoch: -1}}}
	if _, err := admin.AlterConsumerGroupOffsets("group-t", lost, nil); err != nil {
		t.Fatal(err)
	}
	s := &runtest.Sink{}
	logs, seen := observer.New(zap.WarnLevel)
	r := startLogged(t, options("t", c.ListenAddrs()...), s, zap.New(logs).Sugar())
	s.Await(t, "a", "b")
	r.End()
	if got := committed(t, cl, "group-t", "t", 0); got != 2 {
		t.Errorf("committed %d, want 2", got)
	}
	if all := seen.All(); len(all) != 1 || !strings.Contains(all[0].Message, "is read from its oldest record") {
		t.Errorf("logged %v, want that what was committed is not there", all)
	}
}

func TestCommitsThatAreRefusedAreTold(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "t"))
	cl := client(t, c.ListenAddrs()...)
	logs, seen := observer.New(zap.InfoLevel)
	s := &runtest.Sink{}
	r := startLogged(t, options("t", c.ListenAddrs()...), s, zap.New(logs).Sugar())
	r.AwaitReady(true)
	var refusing atomic.Bool
	var refused atomic.Int32
	c.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !refusing.Load() {
			return nil, nil, false
		}
		refused.Add(1)
		req := r.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.Topics {
			topic := kmsg.NewOffsetCommitResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				partition := kmsg.NewOffsetCommitResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, kerr.GroupAuthorizationFailed.Code
				topic.Partitions = append(topic.Partitions, partition)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	refusing.Store(true)
	produce(t, cl, "t", 0, "x")
	s.Await(t, "x")
	runtest.Eventually(t, "several commits are refused", func() bool { return refused.Load() > 3 })
	refusing.Store(false)
	runtest.Eventually(t, "it is committed", func() bool { return committed(t, cl, "group-t", "t", 0) == 1 })
	runtest.Eventually(t, "it is told", func() bool { return seen.Len() > 1 })
	all := seen.All()
	if len(all) != 2 || all[0].Message != "offsets cannot be committed, so a restart repeats all since" || all[1].Message != "offsets are committed again" {
		t.Fatalf("logged %v, want once each that commits fail and that they work", all)
	}
	if cause := fmt.Sprint(all[0].ContextMap()["error"]); !strings.Contains(cause, "GROUP_AUTHORIZATION_FAILED") || !strings.Contains(cause, "allow it") {
		t.Errorf("error %q, want the cause and the cure", cause)
	}
}

func TestATopicThatMayNotBeReadAnyMore(t *testing.T) {
	t.Parallel()
	allow := func(resource kmsg.ACLResourceType, name string) kfake.ACL {
		return kfake.ACL{Resource: resource, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationRead, Allow: true}
	}
	c := cluster(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "secret"),
		kfake.User("PLAIN", "user", "secret", allow(kmsg.ACLResourceTypeTopic, "t"), allow(kmsg.ACLResourceTypeGroup, "group-t")))
	login := sarama.NewConfig()
	login.Net.SASL.Enable, login.Net.SASL.User, login.Net.SASL.Password = true, "admin", "secret"
	login.Producer.Return.Successes, login.Producer.Partitioner = true, sarama.NewManualPartitioner
	admins, err := sarama.NewClient(c.ListenAddrs(), login)
	if err != nil {
		t.Fatal(err)
	}
	defer admins.Close()
	admin, err := sarama.NewClusterAdminFromClient(admins)
	if err != nil {
		t.Fatal(err)
	}
	o := options("t", c.ListenAddrs()...)
	o.Source.Kafka.SASLMechanism, o.Source.Kafka.Username, o.Source.Kafka.Password = "PLAIN", "user", "secret"
	logs, seen := observer.New(zap.WarnLevel)
	s := &runtest.Sink{}
	r := startLogged(t, o, s, zap.New(logs).Sugar())
	r.AwaitReady(true)
	produce(t, admins, "t", 0, "a")
	s.Await(t, "a")

	topic := "t"
	resource := sarama.Resource{ResourceType: sarama.AclResourceTopic, ResourceName: topic, ResourcePatternType: sarama.AclPatternLiteral}
	deny := sarama.Acl{Principal: "User:user", Host: "*", Operation: sarama.AclOperationRead, PermissionType: sarama.AclPermissionDeny}
	if err := admin.CreateACLs([]*sarama.ResourceAcls{{Resource: resource, Acls: []*sarama.Acl{&deny}}}); err != nil {
		t.Fatal(err)
	}
	if err := r.AwaitReady(false); !strings.Contains(err.Error(), "allow it") {
		t.Errorf("ready(%v), want the cure", err)
	}
	produce(t, admins, "t", 0, "b")
	time.Sleep(2 * kafkaclient.LookInterval) // So long it must not say that it is ready.
	if n := len(r.Ready); n != 0 {
		t.Errorf("while it may not read, ready was called %d times more, the first with %v", n, <-r.Ready)
	}
	if _, err := admin.DeleteACL(sarama.AclFilter{
		ResourceType: sarama.AclResourceTopic, ResourceName: &topic, ResourcePatternTypeFilter: sarama.AclPatternLiteral,
		Operation: sarama.AclOperationAny, PermissionType: sarama.AclPermissionDeny,
	}, false); err != nil {
		t.Fatal(err)
	}
	r.AwaitReady(true)
	s.Await(t, "b")
	if all := seen.All(); len(all) != 1 || all[0].Message != "kafka refuses the client, trying again" {
		t.Errorf("logged %v, want once that the client is refused", all)
	}
}
