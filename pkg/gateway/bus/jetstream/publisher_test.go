package jetstream

import (
	"errors"
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
