package runtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// Process returns a command that runs a source, by this binary's TestSourceProcess, and appends what it takes to a file. ready returns nil once
// the source is ready.
func Process(t testing.TB, s plan.Source, file string) (cmd *exec.Cmd, ready func() error) {
	t.Helper()
	spec, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	mark := t.TempDir() + "/ready"
	cmd = exec.Command(os.Args[0], "-test.run=^TestSourceProcess$")
	cmd.Env = append(os.Environ(), "SOURCE="+string(spec), "SOURCE_FILE="+file, "SOURCE_READY="+mark)
	return cmd, func() error {
		_, err := os.Stat(mark)
		return err
	}
}

// SourceProcess is what TestSourceProcess does: nothing, unless it was started by Process.
func SourceProcess(t *testing.T, newSource func(plan.Source) source.Source) {
	spec := os.Getenv("SOURCE")
	if spec == "" {
		return
	}
	var s plan.Source
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(os.Getenv("SOURCE_FILE"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		time.Sleep(time.Millisecond) // to be killed before and after
		defer time.Sleep(time.Millisecond)
		_, err := fmt.Fprintln(f, string(e.Data()))
		return err
	})
	err = newSource(s).Run(t.Context(), next, func(err error) {
		if err == nil {
			_ = os.WriteFile(os.Getenv("SOURCE_READY"), nil, 0o600)
		}
	})
	t.Fatalf("Run() = %v", err)
}

// Lines returns what a process has appended to its file.
func Lines(file string) []string {
	b, _ := os.ReadFile(file)
	return strings.Fields(string(b))
}
