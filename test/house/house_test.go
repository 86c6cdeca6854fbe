package house

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/openfunction/events/"

// bans are the arrows that must not be drawn: a package below from may not depend on one below to, directly or not.
var bans = []struct{ from, to, reason string }{
	{"pkg/event", module + "pkg/", "the value that travels knows nobody"},
	{"pkg/condition", module + "pkg/apis", "conditions are pure: they know events and nothing else of ours"},
	{"pkg/condition", module + "pkg/gateway", "conditions are pure: they know events and nothing else of ours"},
	{"pkg/condition", "net/http", "conditions do no I/O"},
	{"pkg/apis", module + "pkg/plan", "arrows point down: plans are made of objects, not objects of plans"},
	{"pkg/apis", module + "pkg/gateway", "what an object means does not depend on who runs it"},
	{"pkg/plan", module + "pkg/gateway", "the plan is the contract: it knows neither of the two wings"},
	{"pkg/plan", module + "pkg/reconciler", "the plan is the contract: it knows neither of the two wings"},
	{"pkg/plan", "knative.dev/pkg/injection", "compiling is pure: whoever calls it reads the objects"},
	{"pkg/gateway", module + "pkg/reconciler", "the two wings meet only in the plan"},
	{"pkg/gateway", module + "pkg/webhook", "the two wings meet only in the plan"},
	{"pkg/gateway", module + "pkg/client", "the data plane runs without Kubernetes"},
	{"pkg/gateway", module + "pkg/standalone", "standalone is above the data plane"},
	{"pkg/gateway", "knative.dev/pkg/injection", "the data plane runs without Kubernetes"},
	{"pkg/gateway", "github.com/nats-io/nats-streaming-server", "a broker's server is not part of the data plane"},
	{"pkg/gateway", "github.com/nats-io/nats-server", "whoever runs an embedded bus brings its server: it wakes up every second, and a cluster has a gateway for each Trigger"},
	{"cmd/gateway", "github.com/nats-io/nats-server", "a gateway in a cluster has no embedded bus"},
	{"pkg/gateway", "github.com/twmb/franz-go", "kfake is a stand-in for standalone and tests; the client is sarama"},
	{"pkg/gateway/bus/jetstream", module + "pkg/gateway/bus/natsstreaming", "a bus kind never imports a sibling"},
	{"pkg/gateway/bus/jetstream", module + "pkg/gateway/bus/kafka", "a bus kind never imports a sibling"},
	{"pkg/gateway/bus/natsstreaming", module + "pkg/gateway/bus/jetstream", "a bus kind never imports a sibling"},
	{"pkg/gateway/bus/natsstreaming", module + "pkg/gateway/bus/kafka", "a bus kind never imports a sibling"},
	{"pkg/gateway/bus/kafka", module + "pkg/gateway/bus/jetstream", "a bus kind never imports a sibling"},
	{"pkg/gateway/bus/kafka", module + "pkg/gateway/bus/natsstreaming", "a bus kind never imports a sibling"},
	{"pkg/gateway/bus", module + "pkg/gateway/trigger", "a bus carries events; what they mean is the trigger's"},
	{"pkg/gateway/source", module + "pkg/gateway/bus", "a source hands events to a handler; where they go is the gateway's"},
	{"pkg/gateway/source/cron", module + "pkg/gateway/source/kafka", "a source kind never imports a sibling"},
	{"pkg/gateway/source/cron", module + "pkg/gateway/source/mqtt", "a source kind never imports a sibling"},
	{"pkg/gateway/source/cron", module + "pkg/gateway/source/redis", "a source kind never imports a sibling"},
	{"pkg/gateway/source/kafka", module + "pkg/gateway/source/cron", "a source kind never imports a sibling"},
	{"pkg/gateway/source/kafka", module + "pkg/gateway/source/mqtt", "a source kind never imports a sibling"},
	{"pkg/gateway/source/kafka", module + "pkg/gateway/source/redis", "a source kind never imports a sibling"},
	{"pkg/gateway/source/mqtt", module + "pkg/gateway/source/cron", "a source kind never imports a sibling"},
	{"pkg/gateway/source/mqtt", module + "pkg/gateway/source/kafka", "a source kind never imports a sibling"},
	{"pkg/gateway/source/mqtt", module + "pkg/gateway/source/redis", "a source kind never imports a sibling"},
	{"pkg/gateway/source/redis", module + "pkg/gateway/source/cron", "a source kind never imports a sibling"},
	{"pkg/gateway/source/redis", module + "pkg/gateway/source/kafka", "a source kind never imports a sibling"},
	{"pkg/gateway/source/redis", module + "pkg/gateway/source/mqtt", "a source kind never imports a sibling"},
	{"pkg/gateway/source", module + "pkg/gateway/ingress", "a source kind never imports a sibling"},
	{"pkg/gateway/ingress", module + "pkg/gateway/bus", "a source hands events to a handler; where they go is the gateway's"},
	{"pkg/gateway/trigger", module + "pkg/gateway/bus/", "a trigger knows what a bus does, not which one it is"},
	{"pkg/gateway/metrics", module + "pkg/gateway/", "what is counted does not depend on who does it"},
	{"pkg/gateway/dispatch", module + "pkg/gateway/bus", "a topic is a handler like any other to dispatch"},
	{"pkg/plan", module + "pkg/client", "compiling is pure: whoever calls it reads the objects"},
	{"pkg/webhook", module + "pkg/gateway", "the two wings meet only in the plan"},
	{"pkg/webhook", module + "pkg/standalone", "standalone is above both wings"},
	{"pkg/webhook", module + "pkg/reconciler", "admission and reconciling run apart"},
	{"pkg/reconciler", module + "pkg/gateway", "the two wings meet only in the plan"},
	{"pkg/reconciler", module + "pkg/standalone", "standalone is above both wings"},
	{"pkg/reconciler", module + "pkg/webhook", "admission and reconciling run apart"},
	{"pkg/client", module + "pkg/plan", "clients know the types and nothing else of ours"},
	{"pkg/client", module + "pkg/gateway", "clients know the types and nothing else of ours"},
	{"pkg/standalone", module + "pkg/client", "standalone needs no cluster"},
	{"pkg/standalone", module + "pkg/webhook", "standalone needs no cluster"},
	{"pkg/standalone", module + "pkg/reconciler", "standalone needs no cluster"},
	{"pkg", module + "test", "tests are not part of the product"},
	{"cmd", module + "test", "tests are not part of the product"},
}

func TestLayers(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Deps \" \"}}", "../../cmd/...", "../../pkg/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := 0
	for scanner := lines(out); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		path := strings.TrimPrefix(fields[0], module)
		packages++
		for _, ban := range bans {
			if !below(path, ban.from) || path == "pkg/gateway/bus/jetstream/embedded" || path == "pkg/gateway/bus/internal/natsaccesstest" {
				continue
			}
			for _, dep := range fields[1:] {
				if below(dep, strings.TrimSuffix(ban.to, "/")) && (dep != strings.TrimSuffix(ban.to, "/") || !strings.HasSuffix(ban.to, "/")) && !below(strings.TrimPrefix(dep, module), ban.from) {
					t.Errorf("%s depends on %s: %s", path, strings.TrimPrefix(dep, module), ban.reason)
				}
			}
		}
	}
	if packages < 10 {
		t.Errorf("only %d packages were looked at", packages)
	}
}

func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func lines(out []byte) *bufio.Scanner {
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 1<<20)
	return scanner
}

// TestPackageDocs wants each package to say what it is for in exactly one file.
func TestPackageDocs(t *testing.T) {
	docs := map[string][]string{}
	walk(t, func(path string) {
		dir := filepath.Dir(path)
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if _, seen := docs[dir]; !seen {
			docs[dir] = nil
		}
		if f.Doc != nil && documents(f) {
			docs[dir] = append(docs[dir], path)
		}
	})
	for dir, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s: %d files hold a package comment %v, want 1", dir, len(files), files)
		}
	}
}

func documents(f *ast.File) bool {
	text := f.Doc.Text()
	return strings.HasPrefix(text, "Package "+f.Name.Name+" ") || f.Name.Name == "main" && strings.HasPrefix(text, "Command ")
}

// walk visits the Go files that people write.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	for _, root := range []string{"../../cmd", "../../pkg", "../../test"} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path == "../../pkg/client":
				return filepath.SkipDir
			case strings.HasSuffix(path, ".go"):
				visit(path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFilesAreOneThought questions files of more than 500 lines that nobody generated.
func TestFilesAreOneThought(t *testing.T) {
	walk(t, func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(data, []byte("\n")); n > 500 && !strings.HasPrefix(filepath.Base(path), "zz_generated") && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s has %d lines: split it", path, n)
		}
	})
}
