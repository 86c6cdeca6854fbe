package plan_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

func TestCompileDoesNotDependOnOrder(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, _, _ := strings.Cut(string(text), "-- plan --\n")
		all = append(all, input)
	}
	for i, input := range all {
		o, opts := load(t, input)
		want := golden(t, o, opts)
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 0))
			shuffle(r, o.EventSources)
			shuffle(r, o.EventBuses)
			shuffle(r, o.ClusterEventBuses)
			shuffle(r, o.Triggers)
			if diff := gocmp.Diff(want, golden(t, o, opts)); diff != "" {
				t.Fatalf("%s, shuffled with seed %d (-in order, +shuffled):\n%s", files[i], seed, diff)
			}
		}
	}
}

func shuffle[T any](r *rand.Rand, s []T) {
	r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func TestCompileDoesNotChangeTheObjects(t *testing.T) {
	text, err := os.ReadFile("testdata/missing.txt")
	if err != nil {
		t.Fatal(err)
	}
	input, _, _ := strings.Cut(string(text), "-- plan --\n")
	got, opts := load(t, input)
	want, _ := load(t, input)
	plan.Compile(got, opts)
	if !equality.Semantic.DeepEqual(got, want) {
		t.Error("Compile changed the objects it was given")
	}
}

func TestWhyASourceWaitsIsForEverybody(t *testing.T) {
	from := &v1alpha1.SecretKeyRef{Name: "planted", Key: "planted"}
	bus := &v1alpha1.EventBus{Spec: v1alpha1.EventBusSpec{JetStream: &v1alpha1.JetStreamSpec{NATSAccessSpec: v1alpha1.NATSAccessSpec{TokenFrom: from}}}}
	bus.Namespace, bus.Name = "d", "b"
	es := func(name string, spec v1alpha1.EventSourceSpec) *v1alpha1.EventSource {
		es := &v1alpha1.EventSource{Spec: spec}
		es.Namespace, es.Name = "d", name
		return es
	}
	open := map[string]*v1alpha1.HTTPSpec{"e": {}}
	p, _ := plan.Compile(plan.Objects{EventBuses: []*v1alpha1.EventBus{bus}, EventSources: []*v1alpha1.EventSource{
		es("a", v1alpha1.EventSourceSpec{EventBus: "b", HTTP: open}),
		es("b", v1alpha1.EventSourceSpec{EventBus: "none", HTTP: open}),
		es("c", v1alpha1.EventSourceSpec{Sink: &v1alpha1.Sink{}, HTTP: map[string]*v1alpha1.HTTPSpec{
			"e": {Auth: &v1alpha1.HTTPAuthSpec{Bearer: &v1alpha1.BearerAuthSpec{TokenFrom: from}}}}}),
		es("d", v1alpha1.EventSourceSpec{Sink: &v1alpha1.Sink{}, Kafka: map[string]*v1alpha1.KafkaSpec{
			"e": {Brokers: "k:9092", TLS: &v1alpha1.TLSSpec{CACertFrom: &v1alpha1.SecretKeyRef{Name: "s", Key: "ca"}}}}}),
	}}, plan.Options{
		Secret: func(_, name, _ string) (string, error) {
			if name == "planted" {
				return "", errors.New("planted")
			}
			return "planted, and no certificate", nil
		},
		Resolve: func(*duckv1.Destination, string) (*plan.Target, error) { return &plan.Target{}, nil },
	})
	var got []string
	for _, s := range p.WaitingSources {
		got = append(got, s.Why)
	}
	want := []string{"EventBus d/b cannot be used", "there is no EventBus none", "spec.http[e].auth.bearer.tokenFrom cannot be used", "spec.kafka[e].tls cannot be used"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("Why (-want, +got):\n%s", diff)
	}
}

func TestCompileOfNothing(t *testing.T) {
	p, problems := plan.Compile(plan.Objects{}, plan.Options{})
	if diff := gocmp.Diff(&plan.Plan{}, p); diff != "" || problems != nil {
		t.Errorf("Compile of nothing: plan (-want, +got):\n%s\nproblems %v", diff, problems)
	}
}

// What validation refuses must not take the others down if it ever gets here.
func TestCompileOfInvalidObjects(t *testing.T) {
	tests := []struct {
		name, objects, want string
	}{
		{
			name:    "a window that is no duration",
			objects: `{kind: Trigger, metadata: {name: t}, spec: {window: soon, inputs: {}, subscribers: [{condition: a, topic: b}]}}`,
			want:    `Trigger default/t: spec.window Invalid`,
		},
		{
			name:    "an input without a value",
			objects: `{kind: Trigger, metadata: {name: t}, spec: {inputs: {a: null}, subscribers: [{condition: a, topic: b}]}}`,
			want:    `Trigger default/t: spec.inputs[a].eventSource EventSourceNotFound`,
		},
		{
			name:    "a delivery that is no duration",
			objects: `{kind: Trigger, metadata: {name: t}, spec: {inputs: {}, subscribers: [{condition: a, topic: b, delivery: {timeout: soon}}]}}`,
			want:    `Trigger default/t: spec.subscribers[0].delivery Invalid`,
		},
		{
			name:    "kafka without a value",
			objects: `{kind: EventSource, metadata: {name: es}, spec: {kafka: {e: null}}}`,
			want:    `EventSource default/es: spec.kafka[e].brokers Invalid`,
		},
		{
			name:    "a bus without a backend",
			objects: `{kind: EventBus, metadata: {name: b}}`,
			want:    `EventBus default/b: spec Invalid`,
		},
		{
			name:    "a bus that begins at no time",
			objects: `{kind: EventBus, metadata: {name: b}, spec: {natsStreaming: {startAtTime: noon}}}`,
			want:    `EventBus default/b: spec.natsStreaming.startAtTime Invalid`,
		},
	}
	const bus = "\n---\n{kind: EventBus, metadata: {name: default}, spec: {embedded: {}}}"
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, opts := load(t, tt.objects+bus)
			p, problems := plan.Compile(o, opts)
			if diff := gocmp.Diff(&plan.Plan{Waiting: p.Waiting}, p); diff != "" {
				t.Errorf("plan (-want, +got):\n%s", diff)
			}
			if len(problems) != 1 {
				t.Fatalf("problems = %v, want one", problems)
			}
			f := problems[0]
			if got := fmt.Sprintf("%s %s/%s: %s %s", f.Kind, f.Namespace, f.Name, f.Path, f.Reason); got != tt.want {
				t.Errorf("problem = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestEventSourceThatLeadsNowhere(t *testing.T) {
	es := &v1alpha1.EventSource{} // not defaulted
	es.Namespace, es.Name = "default", "es"
	_, problems := plan.Compile(plan.Objects{EventSources: []*v1alpha1.EventSource{es}}, plan.Options{})
	want := "EventSource default/es: spec: neither eventBus nor sink is set, so events would go nowhere"
	if len(problems) != 1 || problems[0].Error() != want {
		t.Errorf("problems = %v, want %s", problems, want)
	}
}

func TestSubscriberID(t *testing.T) {
	audit := subscriber("audit", "")
	metrics := subscriber("", "metrics")
	before := ids(t, "default", "t", audit, metrics)

	tests := []struct {
		name   string
		change func() []string
		want   []string
	}{
		{"positions", func() []string { return ids(t, "default", "t", metrics, audit) }, []string{before[1], before[0]}},
		{"conditions, match, payload and dead letters", func() []string {
			a := audit
			a.Condition = "!e || e"
			a.Match = v1alpha1.MatchLatest
			a.Payload = v1alpha1.PayloadAll
			a.DeadLetterTopic = "dead"
			a.DeadLetterSink = subscriber("dead", "").Sink
			return ids(t, "default", "t", a, metrics)
		}, before},
		{"another subscriber before it", func() []string {
			return ids(t, "default", "t", subscriber("new", ""), audit, metrics)[1:]
		}, before},
		{"the version of the sink's API", func() []string {
			a := subscriber("audit", "")
			a.Sink.Ref.APIVersion = "serving.knative.dev/v2"
			return ids(t, "default", "t", a, metrics)
		}, before},
		{"the sink's namespace being written out", func() []string {
			a := subscriber("audit", "")
			a.Sink.Ref.Namespace = "default"
			return ids(t, "default", "t", a, metrics)
		}, before},
		{"an equal one after it", func() []string {
			return ids(t, "default", "t", audit, metrics, audit)[:2]
		}, before},
	}
	for _, tt := range tests {
		t.Run("stays the same whatever "+tt.name, func(t *testing.T) {
			if diff := gocmp.Diff(tt.want, tt.change()); diff != "" {
				t.Errorf("IDs (-want, +got):\n%s", diff)
			}
		})
	}

	inSecret := func(name, key string) v1alpha1.Subscriber {
		return v1alpha1.Subscriber{Condition: "e", Sink: &v1alpha1.Sink{URIFrom: &v1alpha1.SecretKeyRef{Name: name, Key: key}}}
	}
	path := subscriber("audit", "")
	path.Sink.URI = &apis.URL{Path: "/in"}
	coreService := subscriber("audit", "")
	coreService.Sink.Ref.APIVersion = "v1"
	elsewhere := subscriber("audit", "")
	elsewhere.Sink.Ref.Namespace = "elsewhere"
	all := ids(t, "default", "t", audit, metrics, subscriber("audit", "metrics"), audit, audit, path, coreService, elsewhere,
		inSecret("s", "a"), inSecret("s", "b"), inSecret("t", "a"))
	all = append(all, ids(t, "default", "other", audit)...)
	all = append(all, ids(t, "other", "t", audit)...)
	slices.Sort(all)
	if got := slices.Compact(slices.Clone(all)); len(got) != len(all) {
		t.Errorf("different targets, Triggers or namespaces share an ID: %v", all)
	}
	a, b := inSecret("s", "a"), inSecret("s", "b")
	if one, other := ids(t, "default", "t", a, b), ids(t, "default", "t", b, a); one[0] != other[1] || one[1] != other[0] {
		t.Errorf("the order of URLs in Secrets counts: %v and %v", one, other)
	}
}

// A URL in a Secret that changes leaves the subscription, which tells nothing of it.
func TestSubscriberIDDoesNotDependOnSecrets(t *testing.T) {
	var want []string
	for _, url := range []string{"https://a.example.com/1", "http://b.example.com", "no URL"} {
		o, opts := load(t, `
{kind: EventBus, metadata: {name: default}, spec: {embedded: {}}}
---
{kind: EventSource, metadata: {name: es}, spec: {eventBus: default, sink: {uriFrom: {name: s, key: url}}, http: {e: {}}}}
---
{kind: Trigger, metadata: {name: t}, spec: {inputs: {e: {eventSource: es, event: e}}, subscribers: [{condition: e, sink: {uriFrom: {name: s, key: url}}}]}}`)
		opts.Secret = func(string, string, string) (string, error) { return url, nil }
		p, _ := plan.Compile(o, opts)
		var got []string
		for _, s := range p.Subscriptions() {
			got = append(got, s.Name)
		}
		if want == nil {
			want = got
		}
		if len(got) != 2 || !slices.Equal(got, want) {
			t.Errorf("with %s in the Secret the subscriptions are %q, want %q", url, got, want)
		}
	}
}

// A Secret may have been written with an editor, or by indented YAML.
func TestSpaceAroundAURLInASecretIsNoPartOfIt(t *testing.T) {
	for _, text := range []string{"http://h/in \n", "\thttp://h/in", "  \r\nhttp://h/in\r\n"} {
		p, problems := compileWithURL(t, text, "")
		if len(problems) > 0 || len(p.Subscribers) != 1 || p.Subscribers[0].Sink.URL != "http://h/in" {
			t.Errorf("%q: subscribers %v, problems %v; want one with http://h/in", text, p.Subscribers, problems)
		}
	}
	if p, problems := compileWithURL(t, " \t", ""); len(problems) != 1 || problems[0].Reason != plan.ReasonSecretInvalid || len(p.Subscribers) != 0 {
		t.Errorf("space alone: subscribers %v, problems %v; want one that it is no URL", p.Subscribers, problems)
	}
}

func TestAnHTTPURLInASecretIsRefusedBesideCACerts(t *testing.T) {
	ca, _ := pair(t)
	p, problems := compileWithURL(t, "HTTP://pl4nted/in", ca)
	const want = `Trigger default/t: spec.subscribers[0].sink.uriFrom: key "url" of Secret default/s is an http URL, beside which CACerts are not used: write https there to post over TLS, or leave CACerts out`
	if len(problems) != 1 || problems[0].Reason != plan.ReasonSecretInvalid || problems[0].Error() != want || len(p.Subscribers) != 0 {
		t.Errorf("subscribers %v, problems %v; want none, and %s", p.Subscribers, problems, want)
	}
	for url, caCerts := range map[string]string{"https://pl4nted/in": ca, "http://pl4nted/in": ""} {
		if _, problems := compileWithURL(t, url, caCerts); len(problems) > 0 {
			t.Errorf("%s: problems %v, want none", url, problems)
		}
	}
}

// compileWithURL compiles a Trigger with a sink whose URL is in a Secret.
func compileWithURL(t *testing.T, url, caCerts string) (*plan.Plan, []plan.Problem) {
	t.Helper()
	o, opts := load(t, `
{kind: EventBus, metadata: {name: default}, spec: {embedded: {}}}
---
{kind: EventSource, metadata: {name: es}, spec: {http: {e: {}}}}
---
{kind: Trigger, metadata: {name: t}, spec: {inputs: {e: {eventSource: es, event: e}}, subscribers: [{condition: e, sink: {uriFrom: {name: s, key: url}}}]}}`)
	if caCerts != "" {
		o.Triggers[0].Spec.Subscribers[0].Sink.CACerts = &caCerts
	}
	opts.Secret = func(string, string, string) (string, error) { return url, nil }
	return plan.Compile(o, opts)
}

func TestSubscriberIDFitsABus(t *testing.T) {
	allowed := regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)
	long := strings.Repeat("x", 253)
	for _, name := range []string{"t", "with.dots", long, long[:252] + "y"} {
		id := ids(t, "default", name, subscriber("audit", ""))[0]
		if !allowed.MatchString(id) {
			t.Errorf("ID of Trigger %s = %s, want it to match %s", name, id, allowed)
		}
	}
	if a, b := ids(t, "default", long, subscriber("a", "")), ids(t, "default", long[:252]+"y", subscriber("a", "")); a[0] == b[0] {
		t.Errorf("two long names that begin alike share the ID %s", a[0])
	}
}

func subscriber(sink, topic string) v1alpha1.Subscriber {
	s := v1alpha1.Subscriber{Condition: "e", Topic: topic}
	if sink != "" {
		s.Sink = &v1alpha1.Sink{Destination: duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: sink}}}
	}
	return s
}

// ids compiles a Trigger and returns the ID of each subscriber, in the order given.
func ids(t *testing.T, namespace, name string, subscribers ...v1alpha1.Subscriber) []string {
	t.Helper()
	o, opts := load(t, strings.ReplaceAll(`
{kind: ClusterEventBus, metadata: {name: default}, spec: {embedded: {}}}
---
{kind: EventSource, metadata: {name: es, namespace: NS}, spec: {http: {e: {}}}}
---
{kind: Trigger, metadata: {name: t, namespace: NS}, spec: {inputs: {e: {eventSource: es, event: e}}}}`, "NS", namespace))
	trigger := o.Triggers[0]
	trigger.Name = name
	for i, s := range subscribers {
		s.Delivery = &v1alpha1.DeliverySpec{Retry: new(int32(i))} // so that each is found again: an ID does not depend on it
		trigger.Spec.Subscribers = append(trigger.Spec.Subscribers, s)
	}
	opts.Secret = func(string, string, string) (string, error) { return "https://example.com/in", nil }
	p, problems := plan.Compile(o, opts)
	if len(problems) > 0 || len(p.Subscribers) != len(subscribers) {
		t.Fatalf("%d of %d subscribers, problems %v", len(p.Subscribers), len(subscribers), problems)
	}
	found := make([]string, len(subscribers))
	for _, s := range p.Subscribers {
		found[s.Delivery.Retry] = s.ID
	}
	return found
}
