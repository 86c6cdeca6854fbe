package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	goodBus = "apiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\nmetadata: {name: default}\nspec: {embedded: {}}\n"
	badBus  = "apiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\nmetadata: {name: default}\nspec: {embeded: {}}\n"
)

func events(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func files(t *testing.T, contents map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, content := range contents {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	files(t, map[string]string{"good.yaml": goodBus, "bad.yaml": badBus, "other.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n"})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	badLine := `bad.yaml:4: EventBus default/default: spec.embeded: unknown field; did you mean "embedded"?` + "\n"
	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"nothing shows what there is", nil, 2, "", "events run -f PATH..."},
		{"help", []string{"help"}, 0, "events validate -f PATH...", ""},
		{"help of a command", []string{"help", "run"}, 0, "\n  --embedded\n", ""},
		{"help as an option", []string{"send", "--help"}, 0, "\n  --concurrency N\n", ""},
		{"version", []string{"version"}, 0, "events ", ""},
		{"an unknown command", []string{"start"}, 2, "", `unknown command "start"`},
		{"a command with a typing mistake", []string{"vaildate"}, 2, "", "events: unknown command \"vaildate\"; did you mean \"validate\"?\n"},
		{"an option like no other", []string{"run", "--zzzzzz", "x"}, 2, "", "events run: unknown flag --zzzzzz\nSee"},
		{"an option without its value", []string{"run", "--data"}, 2, "", "flag needs an argument: --data\n"},
		{"no duration", []string{"send", "--timeout", "3"}, 2, "", `invalid value "3" for flag --timeout: want a duration, for example 3s`},
		{"no number", []string{"send", "--rate", "abc"}, 2, "", `invalid value "abc" for flag --rate: want a number`},
		{"no whole number", []string{"send", "--count", "1.5"}, 2, "", `invalid value "1.5" for flag --count: want a whole number`},
		{"neither true nor false", []string{"run", "--embedded=maybe"}, 2, "", `invalid boolean value "maybe" for --embedded: want true or false`},
		{"an empty file name", []string{"run", "-f", ""}, 2, "", `invalid value "" for flag -f: want a value`},
		{"run takes no port out of range", []string{"run", "good.yaml", "--listen", "127.0.0.1:99999"}, 2, "", `--listen "127.0.0.1:99999": want HOST:PORT`},
		{"run tells that an address is not of this machine", []string{"run", "good.yaml", "--listen", "192.0.2.1:0"}, 1, "", "no address of this machine: "},
		{"run takes levels in capitals", []string{"run", "bad.yaml", "--log-level", "DEBUG"}, 1, "", badLine},
		{"an unknown option", []string{"run", "--sinc", "x"}, 2, "", "events run: unknown flag --sinc; did you mean --sink?\nSee: events help run\n"},
		{"no file", []string{"validate"}, 2, "", "no file given: want -f PATH"},
		{"a valid file", []string{"validate", "-f", "good.yaml"}, 0, "ok good.yaml: EventBus default/default\n", ""},
		{"a file without -f", []string{"validate", "good.yaml"}, 0, "ok good.yaml: EventBus default/default\n", ""},
		{"several files after one -f", []string{"validate", "-f", "other.yaml", "good.yaml"}, 0, "ok good.yaml: EventBus default/default\n", ""},
		{"a wrong file", []string{"validate", "-f", "bad.yaml"}, 1, "", badLine},
		{"a file with another kind only", []string{"validate", "-f", "other.yaml"}, 0, "", "warning: no EventSource, EventBus, ClusterEventBus or Trigger there, only 1 Namespace\n"},
		{"a file that is not there", []string{"validate", "-f", "nope.yaml"}, 1, "", "nope.yaml: no such file or directory\n"},
		{"run does not start with a wrong file", []string{"run", "-f", "bad.yaml"}, 1, "", badLine},
		{"run does not start with nothing to run", []string{"run", "-f", "other.yaml"}, 1, "", "no EventSource, EventBus, ClusterEventBus or Trigger there"},
		{"run takes no unknown output", []string{"run", "good.yaml", "--output", "xml"}, 2, "", `--output "xml": want text or json`},
		{"run takes no unknown level", []string{"run", "good.yaml", "--log-level", "loud"}, 2, "", `--log-level "loud": want debug, info, warn or error`},
		{"run takes no port alone", []string{"run", "good.yaml", "--listen", "8080"}, 2, "", `--listen "8080": want HOST:PORT`},
		{"run takes no port alone for metrics", []string{"run", "good.yaml", "--metrics", "9090"}, 2, "", `--metrics "9090": want HOST:PORT`},
		{"run takes no port that is a name", []string{"run", "good.yaml", "--address", "a:x=b:1"}, 2, "", `address "a:x=b:1": want HOST:PORT=HOST:PORT`},
		{"run wants a data directory", []string{"run", "good.yaml", "--listen", "127.0.0.1:0", "--data", "good.yaml"}, 1, "", "events run: data directory good.yaml: not a directory\n"},
		{"run takes no data directory that an empty variable names", []string{"run", "good.yaml", "--data", ""}, 2, "", `--data "": want a directory; without --data events are kept in memory`},
		{"version takes no arguments", []string{"version", "x"}, 2, "", `argument "x": not understood`},
		{"send takes no endless rate", []string{"send", "--to", "http://h", "--rate", "Inf"}, 2, "", "rate +Inf: want 0 or more"},
		{"send takes no rate that is no number", []string{"send", "--to", "http://h", "--rate", "NaN"}, 2, "", "rate NaN: want 0 or more"},
		{"run takes no sink without a URL", []string{"run", "good.yaml", "--sink", "a/b"}, 2, "", `sink "a/b": want NAMESPACE/NAME=URL`},
		{"run takes no address without a port", []string{"run", "good.yaml", "--address", "a=b"}, 2, "", `address "a=b": want HOST:PORT=HOST:PORT`},
		{"run tells which port is taken", []string{"run", "good.yaml", "--listen", taken.Addr().String()}, 1, "", taken.Addr().String() + ": bind: address already in use: stop who has it"},
		{"send wants a destination", []string{"send"}, 2, "", "no destination given: want --to URL"},
		{"send wants a URL", []string{"send", "--to", "localhost:8080"}, 2, "", "want an http or https URL"},
		{"send takes no arguments", []string{"send", "--to", "http://h", "x"}, 2, "", `argument "x": not understood`},
		{"send wants headers with a name", []string{"send", "--to", "http://h", "--header", "planted-secret"}, 2, "", "events send: header: want 'NAME: VALUE'\nSee"},
		{"send wants headers that are valid", []string{"send", "--to", "http://h", "--header", "a b: planted-secret"}, 2, "", "events send: header: want 'NAME: VALUE'\nSee"},
		{"send has flags for attributes", []string{"send", "--to", "http://h", "--header", "Ce-Id: mine"}, 2, "", "header Ce-Id: use --id\n"},
		{"send says the time itself", []string{"send", "--to", "http://h", "--header", "ce-time: now"}, 2, "", "header ce-time: is set for each event\n"},
		{"send wants a file that is there", []string{"send", "--to", "http://h", "--data", "@nope"}, 1, "", "data: open nope: no such file or directory"},
		{"send wants attributes that are valid", []string{"send", "--to", "http://h", "--type", " "}, 1, "", "attribute type is missing or empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := events(t, tt.args...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("events %v = %d\nstdout: %s\nstderr: %s\nwant %d\nstdout: %s\nstderr: %s", tt.args, code, stdout, stderr, tt.code, tt.stdout, tt.stderr)
			}
			if tt.stderr == "" && stderr != "" || tt.stdout == "" && stdout != "" {
				t.Errorf("events %v says too much\nstdout: %s\nstderr: %s", tt.args, stdout, stderr)
			}
		})
	}
}

// broken is an output that cannot be written.
type broken struct{ why error }

func (b broken) Write([]byte) (int, error) { return 0, b.why }

func TestWhatCannotBeWrittenIsNotDone(t *testing.T) {
	files(t, map[string]string{"good.yaml": goodBus})
	for why, want := range map[error]int{syscall.ENOSPC: 1, syscall.EPIPE: 0} {
		for _, args := range [][]string{{"validate", "good.yaml"}, {"version"}, {"help", "run"}} {
			var stderr bytes.Buffer
			if got := run(t.Context(), args, broken{why}, &stderr); got != want || (stderr.Len() > 0) != (want > 0) {
				t.Errorf("events %v to an output with %v = %d, %q, want %d", args, why, got, stderr.String(), want)
			}
		}
	}
}

// A run ends, since what it delivers on would be shown to nobody.
func TestRunEndsWhenItCannotPrint(t *testing.T) {
	files(t, map[string]string{"shown.yaml": `
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: s}
spec: {cron: {tick: {schedule: "@every 1s"}}, sink: {ref: {apiVersion: v1, kind: Service, name: shown}}}
`})
	for why, want := range map[error]int{syscall.ENOSPC: 1, syscall.EPIPE: 0} {
		var stderr bytes.Buffer
		got := run(t.Context(), []string{"run", "shown.yaml", "--listen", "127.0.0.1:0"}, broken{why}, &stderr)
		if said := strings.Contains(stderr.String(), "events run: deliveries cannot be printed: "+why.Error()+"\n"); got != want || said != (want > 0) {
			t.Errorf("events run to an output with %v = %d, want %d\n%s", why, got, want, &stderr)
		}
	}
}

func TestEnvironmentIsTheDefaultOfOptions(t *testing.T) {
	files(t, map[string]string{"good.yaml": goodBus})
	t.Setenv("EVENTS_OUTPUT", "xml")
	if code, _, stderr := events(t, "run", "good.yaml"); code != 2 || !strings.Contains(stderr, `EVENTS_OUTPUT "xml"`) {
		t.Errorf("run with EVENTS_OUTPUT=xml = %d, %s", code, stderr)
	}
	t.Setenv("EVENTS_LISTEN", "nowhere")
	if code, _, stderr := events(t, "run", "good.yaml", "--output", "text"); code != 2 || !strings.Contains(stderr, `EVENTS_LISTEN "nowhere"`) {
		t.Errorf("run with --output text = %d, %s", code, stderr)
	}
}
