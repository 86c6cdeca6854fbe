package crd

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// TestWhatTypesCannotReadIsRefused wants the schema itself to refuse it: admission may be away when it is written, and one such object would keep
// the controller from reading any of its kind.
func TestWhatTypesCannotReadIsRefused(t *testing.T) {
	s := newServer(t)
	const document = "{apiVersion: events.openfunction.io/v1alpha1, kind: %s, metadata: {name: x, namespace: default}, spec: %s}"
	for _, tt := range []struct{ kind, spec, path string }{
		{"EventSource", `{http: {e: {}}, sink: {uri: "http://["}}`, "spec.sink.uri"},
		{"EventSource", `{http: {e: {}}, deadLetterSink: {uri: "http://h:port"}}`, "spec.deadLetterSink.uri"},
		{"Trigger", `{subscribers: [{sink: {uri: "http://h/%zz"}}]}`, "spec.subscribers[0].sink.uri"},
		{"Trigger", `{subscribers: [{deadLetterSink: {uri: ":"}}]}`, "spec.subscribers[0].deadLetterSink.uri"},
		{"EventBus", `{embedded: {replicas: 99999999999}}`, "spec.embedded.replicas"},
		{"EventBus", `{embedded: {replicas: 1.5}}`, "spec.embedded.replicas"},
		{"EventBus", `{embedded: {storage: much}}`, "spec.embedded.storage"},
		{"EventBus", `{embedded: {maxBytes: 1e30}}`, "spec.embedded.maxBytes"},
	} {
		u := parse(t, fmt.Sprintf(document, tt.kind, tt.spec))
		if err := s.check(t, u); err == nil || !strings.Contains(err.Error(), tt.path) {
			t.Errorf("%s: %v, want a word on %s", tt.spec, err, tt.path)
		}
	}
}

// uris are the patterns of the schemas for URIs, by themselves.
func uris(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	all := map[string]*regexp.Regexp{}
	for _, k := range newServer(t) {
		visit(k.structural, "", func(path string, field *schema.Structural) {
			if strings.HasPrefix(path, ".spec") && strings.HasSuffix(path, ".uri") && field.ValueValidation != nil {
				all[field.ValueValidation.Pattern] = regexp.MustCompile(field.ValueValidation.Pattern)
			}
		})
	}
	if len(all) == 0 {
		t.Fatal("no schema has a uri")
	}
	return all
}

// TestURIs wants whatever the schema lets through to be a URI for the types, of the right ones and of what a hundred thousand slips of the hand
// make of them.
func TestURIs(t *testing.T) {
	right := []string{
		"", "http://sink", "http://sink.shop.svc.cluster.local:8080/in/a%20b?q=100%&r=#top", "https://me:p%40ss@[::1]:80/", "/orders", "orders?x=1", "?a", "#b", "..",
		"http://[fe80::1]/", "http://[1:2:3:4:5:6:7:8]/", "//host/path", "http://münchen/straße", "mailto:me", "http://h:/", "http://a_b~c!/", "HTTP://H",
	}
	for _, p := range uris(t) {
		takes := func(uri string) bool {
			_, err := url.Parse(uri)
			took := p.MatchString(uri)
			if took && err != nil {
				t.Errorf("the schema takes %q for a URI, and the types do not: %v", uri, err)
			}
			return took
		}
		for _, uri := range right {
			if !takes(uri) {
				t.Errorf("the schema refuses %q", uri)
			}
		}
		for _, uri := range []string{"http://[", ":", "1:2", "http://h:x", "http://h/%zz", "http://%zz/", "http://a b/", "a\x7f", "http://h/#%", "http://u\\@h/", "http://::1/", "%", "http://[::1"} {
			if takes(uri) {
				t.Errorf("the schema takes %q", uri)
			}
		}
		const slips = "%:/?#[]@ \x00\x7f<\\\"a1.é\xff"
		random := rand.New(rand.NewPCG(1, 2))
		for range 100_000 {
			uri := []byte(right[random.IntN(len(right))])
			for range 1 + random.IntN(3) {
				at := random.IntN(len(uri) + 1)
				uri = slices.Insert(uri, at, slips[random.IntN(len(slips))])
				if random.IntN(2) == 0 {
					at = random.IntN(len(uri))
					uri = slices.Delete(uri, at, at+1)
				}
			}
			takes(string(uri))
		}
	}
}
