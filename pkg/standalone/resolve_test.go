package standalone

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/plan"
)

func TestResolve(t *testing.T) {
	ref := func(namespace, name string) *duckv1.KReference {
		return &duckv1.KReference{APIVersion: "v1", Kind: "Service", Namespace: namespace, Name: name}
	}
	certs := "PEM"
	tests := []struct {
		name string
		d    duckv1.Destination
		want plan.Target
	}{
		{"a reference without a mapping leads to the display", duckv1.Destination{Ref: ref("a", "x")}, plan.Target{Name: "sink a/x"}},
		{"a reference without a namespace is in the object's own", duckv1.Destination{Ref: ref("", "y")}, plan.Target{Name: "sink own/y", URL: "http://host/base/"}},
		{"a relative uri is resolved against the mapping", duckv1.Destination{Ref: ref("own", "y"), URI: &apis.URL{Path: "sub", RawQuery: "a=b"}},
			plan.Target{Name: "sink own/y", URL: "http://host/base/sub?a=b"}},
		{"a relative uri of a reference without a mapping leads to the display", duckv1.Destination{Ref: ref("a", "x"), URI: &apis.URL{Path: "/sub"}},
			plan.Target{Name: "sink a/x"}},
		{"an absolute uri wins", duckv1.Destination{Ref: ref("own", "y"), URI: &apis.URL{Scheme: "https", Host: "other", Path: "/p"}, CACerts: &certs},
			plan.Target{Name: "sink https://other/p", URL: "https://other/p", CACerts: "PEM"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSinks([]string{"own/y=http://host/base/", "z=https://unused"})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Resolve(&tt.d, "own")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("Resolve() (-want +got):\n%s", diff)
			}
			if unused := s.Unused(); unused[0] != "default/z" {
				t.Errorf("Unused() = %v, want default/z first", unused)
			}
		})
	}
	if _, err := new(Sinks).Resolve(&duckv1.Destination{URI: &apis.URL{Path: "/p"}}, "own"); err == nil {
		t.Error("Resolve() of a relative uri alone has no error")
	}
}

func TestOptionsThatAreNotUnderstood(t *testing.T) {
	for value, want := range map[string]string{
		"a/b":             "want NAMESPACE/NAME=URL",
		"a/b/c=http://h":  "want NAMESPACE/NAME=URL",
		"/b=http://h":     "want NAMESPACE/NAME=URL",
		"a/b=127.0.0.1:1": "want an http or https URL",
		"a/b=ftp://h":     "want an http or https URL",
	} {
		if _, err := ParseSinks([]string{value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSinks(%q) = %v, want %s", value, err, want)
		}
	}
	if _, err := ParseSinks([]string{"b=http://h", "default/b=http://h"}); err == nil {
		t.Error("ParseSinks() takes a sink twice")
	}
	for _, value := range []string{"a:1", "a=b:1", "a:1=b", ":1=b:1", "a:1=b:1=c:1"} {
		if _, err := ParseAddresses([]string{value}); err == nil {
			t.Errorf("ParseAddresses(%q) has no error", value)
		}
	}
}

func TestAddressesAreDialledWhereTheyAreMapped(t *testing.T) {
	server := listen(t)
	a, err := ParseAddresses([]string{"Kafka.kafka:9092=" + server, "unused:1=" + server})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := a.dial(t.Context(), "tcp", "kafka.kafka:9092")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	p := &plan.Plan{
		Sources:     []plan.Source{{Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: []string{"kafka.kafka:9092"}}, Topic: "t"}}},
		Subscribers: []plan.Subscriber{{Sink: &plan.Target{URL: (&url.URL{Scheme: "http", Host: "sink.ns"}).String()}}},
	}
	if diff := cmp.Diff([]string{"kafka.kafka:9092", "sink.ns:80"}, named(p)); diff != "" {
		t.Errorf("named() (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"unused:1"}, a.unused(named(p))); diff != "" {
		t.Errorf("unused() (-want +got):\n%s", diff)
	}
}

func TestTheNameOfASinkTellsNoPassword(t *testing.T) {
	s, err := ParseSinks(nil)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := apis.ParseURL("http://user:planted-secret@sink.example/")
	if err != nil {
		t.Fatal(err)
	}
	target, err := s.Resolve(&duckv1.Destination{URI: uri}, "default")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(target.Name, "planted-secret") || !strings.Contains(target.URL, "planted-secret") {
		t.Errorf("name %q, URL %q: want the password in the URL only", target.Name, target.URL)
	}
}
