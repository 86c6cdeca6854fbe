package ingress_test

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/plan"
)

// attributes of an event, without time and content type.
type attributes struct{ ID, Source, Type, Subject string }

func TestAttributesOfRawBodies(t *testing.T) {
	github := plan.HTTP{
		ID: "${header.X-GitHub-Delivery}", Type: "com.github.${header.X-GitHub-Event}",
		Source: "https://github.com/${data.repository.full_name}", Subject: "${query.name}",
	}
	stripe := plan.HTTP{ID: "${data.id}", Type: "com.stripe.${data.type}"}
	tests := []struct {
		name   string
		http   plan.HTTP
		query  string
		header []string
		body   string
		want   attributes
	}{
		{
			"a GitHub push", github, "?name=a+b", []string{"X-GitHub-Delivery: 72d3162e", "X-GitHub-Event: push"}, `{"repository":{"full_name":"a/b"}}`,
			attributes{"72d3162e", "https://github.com/a/b", "com.github.push", "a b"},
		},
		{"a GitHub push that has nothing of all that", github, "", nil, "", attributes{"new", "https://github.com/", "com.github.", ""}},
		{"a Stripe event", stripe, "", nil, `{"id":"evt_1","type":"invoice.paid"}`, attributes{"evt_1", "/src", "com.stripe.invoice.paid", ""}},
		{"defaults for what is empty", plan.HTTP{ID: "${data.id}", Type: "${data.type}", Source: "${data.source}", Subject: "${data.subject}"}, "", nil, `{"type":" "}`,
			attributes{"new", "/src", "io.openfunction.events.http", ""}},
		{"half an id is none", plan.HTTP{ID: "${data.a}-${data.b}"}, "", nil, `{"a":1}`, attributes{"new", "/src", "io.openfunction.events.http", ""}},
		{"a whole id", plan.HTTP{ID: "${data.a}-${data.b}"}, "", nil, `{"a":1,"b":2}`, attributes{"1-2", "/src", "io.openfunction.events.http", ""}},
		{"texts", plan.HTTP{Type: "t", Source: "s", Subject: "u"}, "", nil, "", attributes{"new", "s", "t", "u"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			o := route(&next)
			o.HTTP = tt.http
			o.HTTP.Raw = true
			_, h := serving(t, ingress.Options{NewID: func() string { return "new" }}, o)
			for range 2 { // a repeat is the same event
				if got := do(h, "POST", eventPath+tt.query, headers(tt.header...), strings.NewReader(tt.body)).StatusCode; got != accepted {
					t.Fatalf("status = %d, want %d", got, accepted)
				}
			}
			for _, took := range next.took {
				var got attributes
				if err := json.Unmarshal([]byte(took), &got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("attributes (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestAttributesThatNoEventMayHave(t *testing.T) {
	tests := []struct {
		name, says string
		http       plan.HTTP
		body       string
	}{
		{"too long", "attribute subject: not a valid CloudEvent: ${data.a} is longer than the 1024 bytes", plan.HTTP{Subject: "${data.a}"}, `{"a":"` + strings.Repeat("a", 1025) + `"}`},
		{"a line break", "attribute id: not a valid CloudEvent: ${data.a} has a character", plan.HTTP{ID: "${data.a}"}, `{"a":"1\n2"}`},
		{"a source that is no URI", `attribute source ":": want a URI reference`, plan.HTTP{Source: "${data.a}"}, `{"a":":"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			o := route(&next)
			o.HTTP = tt.http
			o.HTTP.Raw, o.HTTP.MaxBodyBytes = true, 2000
			_, h := serving(t, ingress.Options{}, o)
			response := do(h, "POST", eventPath, nil, strings.NewReader(tt.body))
			says, _ := io.ReadAll(response.Body)
			if response.StatusCode != badRequest || !strings.Contains(string(says), tt.says) || len(next.took) != 0 {
				t.Errorf("answer = %d %q with %d taken, want 400 that says %q", response.StatusCode, says, len(next.took), tt.says)
			}
		})
	}
}
