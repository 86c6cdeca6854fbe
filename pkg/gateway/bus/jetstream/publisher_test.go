package jetstream

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Window is window, for tests of the package from outside.
const Window = window

func TestOutcome(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		header     nats.Header
		want       error
		code       jetstream.ErrorCode
	}{
		{"stored", `{"stream":"S","seq":1}`, nil, nil, 0},
		{"a duplicate is stored", `{"stream":"S","seq":1,"duplicate":true}`, nil, nil, 0},
		{"in another order", `{"seq":1,"stream":"S"}`, nil, nil, 0},
		{"a stream by the name of error", `{"stream":"my \"error\"","seq":1}`, nil, nil, 0},
		{"refused", `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}`, nil, nil, codeStoreFailed},
		{"refused, in another order", `{"stream":"S","seq":0,"error":{"code":503,"err_code":10077}}`, nil, nil, codeStoreFailed},
		{"no stream", "", nats.Header{"Status": {"503"}}, jetstream.ErrNoStreamResponse, 0},
		{"nothing", "", nil, jetstream.ErrInvalidJSAck, 0},
		{"no acknowledgement", `{}`, nil, jetstream.ErrInvalidJSAck, 0},
	} {
		err := outcome(&nats.Msg{Data: []byte(tt.data), Header: tt.header})
		if tt.code == 0 && !errors.Is(err, tt.want) || code(err) != tt.code {
			t.Errorf("%s: %v, want %v with code %d", tt.name, err, tt.want, tt.code)
		}
	}
}

func TestTopicStreamName(t *testing.T) {
	long := strings.Repeat("long.", 100) + "topic"
	seen := map[string]string{}
	for topic, want := range map[string]string{
		"metrics": "metrics", "Audit-Log_2": "Audit-Log_2", "audit.log": "audit=log", "audit=log": "audit%3Dlog", "audit%3Dlog": "audit%253Dlog",
		"a/b\\c~": "a%2Fb%5Cc%7E", "\u00e9": "%C3%A9",
		long: "", long + "s": "",
	} {
		got := topicStreamName(topic)
		if want != "" && got != "openfunction-topic-"+want {
			t.Errorf("topicStreamName(%q) = %q, want openfunction-topic-%s", topic, got, want)
		}
		if len(got) > 255 || seen[got] != "" {
			t.Errorf("topicStreamName(%q) = %q, want a name of at most 255 bytes, and another one for %q", topic, got, seen[got])
		}
		seen[got] = topic
	}
}

func TestReplicasOfTwoBuses(t *testing.T) {
	type stream struct {
		replicas int
		from     string
	}
	for _, tt := range []struct {
		name     string
		has      stream
		replicas int
		want     stream
	}{
		{"it raises those of another", stream{1, "other"}, 3, stream{3, "me"}},
		{"it leaves those of another", stream{3, "other"}, 1, stream{3, "other"}},
		{"it shares those of another", stream{3, "other"}, 3, stream{3, "other"}},
		{"it lowers its own", stream{3, "me"}, 1, stream{1, "me"}},
		{"it takes over what an earlier version made for it", stream{3, ""}, 3, stream{3, "me"}},
		{"it leaves what a person made", stream{3, ""}, 1, stream{3, ""}},
	} {
		b := &Bus{o: Options{Name: "me"}, ctx: t.Context()}
		has := jetstream.StreamConfig{Replicas: tt.has.replicas, Metadata: map[string]string{}}
		if tt.has.from != "" {
			has.Metadata[replicasFrom] = tt.has.from
		}
		want := has
		want.Metadata = maps.Clone(has.Metadata)
		b.settle(jetstream.StreamConfig{Name: deadLettersName, Replicas: tt.replicas}, has, &want)
		if got := (stream{want.Replicas, want.Metadata[replicasFrom]}); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
