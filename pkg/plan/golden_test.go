package plan_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

const (
	planMark     = "-- plan --\n"
	problemsMark = "-- problems --\n"
	// includeMark, before a path, stands for the objects of a file that is shipped.
	includeMark = "# include "
)

// everySecret names the Secret of golden files that has every key: the value is the key, with a certificate below it if it ends with .crt, and a
// private key if it ends with .key. If it ends with .url, the value is a URL whose host is what stands before.
const everySecret = "every"

// pemText puts a certificate and its key, which are never the same, in the place of " <certificate>" and " <key>" of golden files, and back.
type pemText struct{ in, out *strings.Replacer }

func newPEM(t *testing.T) pemText {
	t.Helper()
	cert, key := pair(t)
	escaped := strings.NewReplacer("\n", `\n`)
	cert, key = `\n`+escaped.Replace(strings.TrimSpace(cert)), `\n`+escaped.Replace(strings.TrimSpace(key))
	return pemText{
		in:  strings.NewReplacer(" <certificate>", cert, " <key>", key),
		out: strings.NewReplacer(cert, " <certificate>", key, " <key>"),
	}
}

// every is secret with everySecret.
func (p pemText) every(secret func(namespace, name, key string) (string, error)) func(namespace, name, key string) (string, error) {
	return func(namespace, name, key string) (string, error) {
		if name != everySecret {
			return secret(namespace, name, key)
		}
		value := "value of " + key
		switch filepath.Ext(key) {
		case ".crt":
			value += " <certificate>"
		case ".key":
			value += " <key>"
		case ".url":
			value = "http://" + strings.TrimSuffix(key, ".url")
		}
		return strings.ReplaceAll(p.in.Replace(value), `\n`, "\n"), nil
	}
}

// TestCompile reads the objects above the first mark of each file, and wants the plan and the problems below.
func TestCompile(t *testing.T) {
	pem := newPEM(t)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, _, _ := strings.Cut(string(want), planMark)
			o, opts := load(t, pem.in.Replace(input))
			opts.Secret = pem.every(opts.Secret)
			validate(t, o)
			got := input + pem.out.Replace(golden(t, o, opts))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := gocmp.Diff(string(want), got); diff != "" && !*update {
				t.Errorf("Compile (-want, +got; -update accepts it):\n%s", diff)
			}
		})
	}
}

// golden compiles, and writes the result as a golden file has it.
func golden(t *testing.T, o plan.Objects, opts plan.Options) string {
	t.Helper()
	p, problems := plan.Compile(o, opts)
	var b strings.Builder
	b.WriteString(planMark)
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		t.Fatal(err)
	}
	if len(problems) > 0 {
		b.WriteString(problemsMark)
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "%s (%s)\n", p, p.Reason)
	}
	return b.String()
}

// load reads YAML documents of every kind, and Secrets, and applies the defaults.
func load(t *testing.T, text string) (plan.Objects, plan.Options) {
	t.Helper()
	var o plan.Objects
	secrets := map[string]corev1.Secret{}
	for doc := range strings.SplitSeq(included(t, text), "\n---\n") {
		var kind metav1.PartialObjectMetadata
		decode(t, doc, &kind)
		switch kind.Kind {
		case "":
		case "EventSource":
			o.EventSources = append(o.EventSources, object[v1alpha1.EventSource](t, doc))
		case "EventBus":
			o.EventBuses = append(o.EventBuses, object[v1alpha1.EventBus](t, doc))
		case "ClusterEventBus":
			ceb := object[v1alpha1.ClusterEventBus](t, doc)
			ceb.Namespace = ""
			o.ClusterEventBuses = append(o.ClusterEventBuses, ceb)
		case "Trigger":
			o.Triggers = append(o.Triggers, object[v1alpha1.Trigger](t, doc))
		case "Secret":
			var s corev1.Secret
			decode(t, doc, &s)
			secrets[s.Namespace+"/"+s.Name] = s
		default:
			t.Fatalf("kind %s is not for these tests", kind.Kind)
		}
	}
	secret := func(namespace, name, key string) (string, error) {
		s, ok := secrets[namespace+"/"+name]
		if !ok {
			return "", errors.New("there is no such Secret")
		}
		v, ok := s.StringData[key]
		if !ok {
			return "", errors.New("it has no such key")
		}
		return v, nil
	}
	return o, plan.Options{Resolve: resolve, Secret: secret}
}

// validate refuses what admission would.
func validate(t *testing.T, o plan.Objects) {
	t.Helper()
	var all []apis.Validatable
	for _, b := range o.EventBuses {
		all = append(all, b)
	}
	for _, b := range o.ClusterEventBuses {
		all = append(all, b)
	}
	for _, es := range o.EventSources {
		all = append(all, es)
	}
	for _, tr := range o.Triggers {
		all = append(all, tr)
	}
	for _, v := range all {
		if err := v.Validate(t.Context()).Filter(apis.ErrorLevel); err != nil {
			t.Errorf("%s: %v", v.(metav1.Object).GetName(), err)
		}
	}
}

// resolve knows every name but "missing". Those of "ftp" and "bad-ca" say of themselves what is no use.
func resolve(d *duckv1.Destination, namespace string) (*plan.Target, error) {
	if d.Ref == nil {
		return &plan.Target{Name: d.URI.String(), URL: d.URI.String()}, nil
	}
	name, namespace := d.Ref.Name, cmp.Or(d.Ref.Namespace, namespace)
	if name == "missing" {
		return nil, fmt.Errorf("%s %s/%s does not exist", d.Ref.Kind, namespace, name)
	}
	switch name {
	case "ftp":
		return &plan.Target{Name: "sink " + namespace + "/" + name, URL: "ftp://files"}, nil
	case "bad-ca":
		return &plan.Target{Name: "sink " + namespace + "/" + name, URL: "https://x", CACerts: "none"}, nil
	}
	return &plan.Target{
		Name: "sink " + namespace + "/" + name,
		URL:  "http://" + name + "." + namespace + ".svc.test" + d.URI.String(),
	}, nil
}

func included(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(text) {
		path, ok := strings.CutPrefix(line, includeMark)
		if !ok {
			b.WriteString(line)
			continue
		}
		data, err := os.ReadFile(filepath.Join("testdata", strings.TrimSpace(path)))
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
	}
	return b.String()
}

// declared is a pointer to one of the four kinds.
type declared[T any] interface {
	*T
	metav1.Object
	SetDefaults(ctx context.Context)
}

// object is the object of a document, as it is once it has been admitted.
func object[T any, P declared[T]](t *testing.T, doc string) P {
	t.Helper()
	p := P(new(T))
	decode(t, doc, p)
	if p.GetNamespace() == "" {
		p.SetNamespace("default")
	}
	p.SetDefaults(t.Context())
	return p
}

func decode(t *testing.T, doc string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(doc), into); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
}
