package docs

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCommands builds the command and runs what the pages say of it.
func TestCommands(t *testing.T) {
	events := build(t)
	t.Run("what a reader would copy exits 0", func(t *testing.T) { runCommands(t, events) })
	t.Run("its flags are those of its page", func(t *testing.T) { compareFlags(t, events) })
}

// program is the command, built.
type program string

func build(t *testing.T) program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events")
	command := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/events")
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program(path)
}

// run runs the command in the root of the repository.
func (p program) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), string(p), args...)
	command.Dir = root
	out, err := command.CombinedOutput()
	return string(out), err
}

func runCommands(t *testing.T, events program) {
	ran := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks() {
			for line := range strings.Lines(b.text) {
				args := checkable(strings.TrimSpace(line))
				if args == nil {
					continue
				}
				ran++
				if out, err := events.run(t, args...); err != nil {
					t.Errorf("%s: %s: %v\n%s", p.name, strings.TrimSpace(line), err, out)
				}
			}
		}
	}
	if ran < 4 {
		t.Errorf("only %d commands were found", ran)
	}
}

// checkable returns the arguments to run for a line of a page, nil if there are none. What run would run is validated: that it runs
// is what the end-to-end tests are for.
func checkable(line string) []string {
	fields := strings.Fields(line)
	if len(fields) < 4 || !slices.Equal(fields[:3], []string{"go", "run", "./cmd/events"}) {
		return nil
	}
	args := fields[3:]
	switch args[0] {
	case "validate":
		return args
	case "run":
		args[0] = "validate"
		return slices.DeleteFunc(args, func(arg string) bool { return arg == "--embedded" })
	}
	return nil
}

var (
	helpFlag  = regexp.MustCompile(`(?m)^  --?([a-z][a-z-]*)`)
	tableFlag = regexp.MustCompile("(?m)^\\| `--?([a-z][a-z-]*)")
)

// compareFlags compares the tables of docs/events.md with what the command says of itself.
func compareFlags(t *testing.T, events program) {
	text := read(t, "docs/events.md")
	for _, verb := range []string{"run", "send"} {
		help, err := events.run(t, "help", verb)
		if err != nil {
			t.Fatalf("help %s: %v\n%s", verb, err, help)
		}
		_, section, _ := strings.Cut(text, "\n## events "+verb+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if got, want := matches(tableFlag, section), matches(helpFlag, help); !slices.Equal(got, want) {
			t.Errorf("the flags of %s in docs/events.md are %v, want %v", verb, got, want)
		}
	}
}
