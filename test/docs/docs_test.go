package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/standalone"
)

const (
	root     = "../.."
	examples = "docs/examples"
)

// page is a document, by its path from the root of the repository.
type page struct {
	name, text string
}

// pages are README.md and all of docs.
func pages(t *testing.T) []page {
	t.Helper()
	names := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			name, _ := filepath.Rel(root, path)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []page
	for _, name := range names {
		all = append(all, page{name, read(t, name)})
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file is called %s (%v)", pattern, err)
	}
	return files
}

// block is a fenced part of a page, and the line before it.
type block struct {
	line                  int
	language, above, text string
}

func (p page) blocks() []block {
	var all []block
	var open *block
	above := ""
	for i, line := range strings.SplitAfter(p.text, "\n") {
		bare := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(bare, "```"):
			open = &block{line: i + 1, language: strings.TrimPrefix(bare, "```"), above: above}
		case open != nil && bare == "```":
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line
		}
		above = bare
	}
	return all
}

func (p page) withoutBlocks() string {
	text := p.text
	for _, b := range p.blocks() {
		text = strings.Replace(text, b.text, "", 1)
	}
	return text
}

var names = regexp.MustCompile(`^<!-- (docs/examples/[a-z0-9-]+\.(yaml|conf)) -->$`)

// TestExamplesAreFiles wants each example in YAML, or for a NATS server, to be a file that is named above it, and each of these files to be shown.
func TestExamplesAreFiles(t *testing.T) {
	shown := map[string]bool{}
	for _, p := range pages(t) {
		for _, b := range p.blocks() {
			if b.language != "yaml" && b.language != "yml" && b.language != "conf" {
				continue
			}
			m := names.FindStringSubmatch(b.above)
			if m == nil {
				t.Errorf("%s:%d: the line above a %s block is %q, want <!-- %s/NAME.%s -->", p.name, b.line, b.language, b.above, examples, b.language)
				continue
			}
			shown[filepath.Join(root, m[1])] = true
			if want := read(t, m[1]); b.text != want {
				t.Errorf("%s:%d: the block differs from %s:\n%s\nwant\n%s", p.name, b.line, m[1], b.text, want)
			}
		}
	}
	for _, file := range append(glob(t, examples+"/*.yaml"), glob(t, examples+"/*.conf")...) {
		if !shown[file] {
			t.Errorf("%s is shown on no page", file)
		}
	}
}

// TestExamplesWork wants examples to be whole, without even a warning: they can be run as they are.
func TestExamplesWork(t *testing.T) {
	for _, file := range glob(t, examples+"/*.yaml") {
		config := standalone.Load(t.Context(), []string{file})
		plan, problems := config.Compile(new(standalone.Sinks))
		for _, p := range problems {
			t.Error(p)
		}
		if len(config.Objects) == 0 || plan == nil {
			t.Errorf("%s declares nothing", file)
		}
	}
}

// TestSamplesAreValid takes each file by itself, as validate does: a bus may be in another one.
func TestSamplesAreValid(t *testing.T) {
	for _, file := range glob(t, "config/samples/*.yaml") {
		config := standalone.Load(t.Context(), []string{file})
		for _, p := range config.Check() {
			if !p.Warning {
				t.Error(p)
			}
		}
		if len(config.Objects) == 0 {
			t.Errorf("%s declares nothing", file)
		}
	}
}
