package jetstream

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

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
