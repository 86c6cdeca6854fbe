package standalone

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the code says into testdata")

const dashes = "\n----------\n"

// TestCheck runs each testdata/*.txt: YAML, a line of dashes, and what Check says about it.
func TestCheck(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			in, want, _ := strings.Cut(string(text), dashes)
			t.Chdir(t.TempDir())
			write(t, "in.yaml", in+"\n")
			got := report(Load(t.Context(), []string{"in.yaml"}))
			if *update {
				write(t, file, in+dashes+got)
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Check() (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWrongObjectsGetTheWordsOfAdmission checks the manifests that the API server is shown to refuse, with the same sentences.
func TestWrongObjectsGetTheWordsOfAdmission(t *testing.T) {
	names, err := filepath.Glob("../apis/events/v1alpha1/testdata/invalid/*.yaml")
	if err != nil || len(names) < 60 {
		t.Fatalf("%d manifests (%v), want 60 and more", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := report(Load(t.Context(), []string{name}))
		for line := range strings.Lines(string(text)) {
			if want, ok := strings.CutPrefix(strings.TrimSpace(line), "# want: "); ok && !strings.Contains(got, want) {
				t.Errorf("%s: got\n%swant %s", filepath.Base(name), got, want)
			}
		}
	}
}

func report(c *Config) string {
	var b strings.Builder
	for _, p := range c.Check() {
		fmt.Fprintln(&b, p)
	}
	for _, o := range c.Objects {
		if !o.Invalid {
			fmt.Fprintf(&b, "ok %s: %s\n", o.File, o.Name)
		}
	}
	return b.String()
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSamplesAreValid(t *testing.T) {
	samples, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(samples) < 6 {
		t.Fatalf("samples: %v, %v", samples, err)
	}
	for _, s := range samples {
		for _, p := range Load(t.Context(), []string{s}).Check() {
			if !p.Warning {
				t.Errorf("%s: %s", s, p)
			}
		}
	}
}

func TestLoadOfPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	bus := "apiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\nmetadata: {name: %s}\nspec: {embedded: {}}\n"
	for _, dir := range []string{"d/below", "empty", "deep/below"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "d/b.yml", fmt.Sprintf(bus, "b"))
	write(t, "d/a.yaml", fmt.Sprintf(bus, "a"))
	write(t, "d/c.json", `{"apiVersion": "events.openfunction.io/v1alpha1", "kind": "EventBus",`+"\n\t"+`"metadata": {"name": "c"}, "spec": {"embedded": {}}}`)
	write(t, "d/.hidden.yaml", "not: ours")
	write(t, "d/below/e.yaml", "not: ours")
	write(t, "deep/below/e.yaml", "not: ours")
	write(t, "broken.json", `{"a": [1, 2}`)
	write(t, "d/notes.md", "# Notes")
	write(t, "big.yaml", strings.Repeat("#", maxFileBytes+1))
	tests := []struct {
		name  string
		paths []string
		want  string
	}{
		{"a directory gives its files by name, not those below it", []string{"d"},
			"ok d/a.yaml: EventBus default/a\nok d/b.yml: EventBus default/b\nok d/c.json: EventBus default/c\n"},
		{"a file that is named twice counts once", []string{"d/a.yaml", "d", "./d/a.yaml"},
			"ok d/a.yaml: EventBus default/a\nok d/b.yml: EventBus default/b\nok d/c.json: EventBus default/c\n"},
		{"a file that is not there", []string{"d/a.yaml", "nope.yaml"}, "nope.yaml: no such file or directory\nok d/a.yaml: EventBus default/a\n"},
		{"a directory without a file", []string{"empty"}, "empty: no *.yaml, *.yml or *.json file in this directory\n"},
		{"a directory with files below it only", []string{"deep"},
			"deep: no *.yaml, *.yml or *.json file in this directory; folders below it are not looked at: name them too\n"},
		{"a file that is not JSON", []string{"broken.json"},
			"broken.json:1: not valid JSON: did not find expected ',' or ']' (what opens here is not closed, or a comma is missing)\n"},
		{"a file that is too big", []string{"big.yaml"}, "big.yaml: more than 4 MiB: split the file\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, report(Load(t.Context(), tt.paths))); diff != "" {
				t.Errorf("Load(%v) (-want +got):\n%s", tt.paths, diff)
			}
		})
	}
}

func TestLoadRefusesBombs(t *testing.T) {
	t.Chdir(t.TempDir())
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 9; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	write(t, "bomb.yaml", bomb)
	write(t, "many.yaml", strings.Repeat("---\napiVersion: v1\nkind: Namespace\n", maxDocuments+5))
	tests := []struct{ file, want string }{
		{"bomb.yaml", "bomb.yaml:1: aliases expand to more than 1048576 values\n"},
		{"many.yaml", "many.yaml:30002: more than 10000 objects\n"},
	}
	for _, tt := range tests {
		if got := report(Load(t.Context(), []string{tt.file})); got != tt.want {
			t.Errorf("Load(%s) = %q, want %q", tt.file, got, tt.want)
		}
	}
}

func TestSecretsOfFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: aGVsbG8=, b: Yg==}\nstringData: {b: plain}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: far, namespace: n}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: none}\n")
	c := Load(t.Context(), []string{"s.yaml"})
	for _, tt := range []struct{ name, key, want, err string }{
		{"s", "a", "hello", ""},
		{"s", "b", "plain", ""},
		{"s", "c", "", "the Secret has no such key (it has a, b): add it in s.yaml, or correct the key"},
		{"none", "a", "", "the Secret has no such key (it has none): add it in s.yaml, or correct the key"},
		{"t", "a", "", `the files have no Secret of this name; did you mean "s"?`},
		{"other", "a", "", "the files have no Secret of this name: add it to a file, or correct the name"},
		{"far", "a", "", "the files have no Secret of this name in that namespace, but n/far: add one, or set namespace: default there"},
	} {
		got, err := c.secret("default", tt.name, tt.key)
		if got != tt.want || err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
			t.Errorf("secret(%s, %s) = %q, %v, want %q, %s", tt.name, tt.key, got, err, tt.want, tt.err)
		}
	}
}
