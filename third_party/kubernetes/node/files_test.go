package node

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	table := "example.org/a: /bin/a --flag\nexample.org/a:v2: /bin/a2\nexample.org: /bin/any\n"
	if err := os.WriteFile(filepath.Join(dir, "images.yaml"), []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, image, want string }{
		{"an image that is in the table", "example.org/a:v2", "/bin/a2"},
		{"the longest prefix wins", "example.org/a@sha256:1", "/bin/a --flag"},
		{"a shorter prefix", "example.org/b", "/bin/any"},
		{"an image that is not there", "busybox", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := findProgram(dir, tt.image)
			if strings.Join(got, " ") != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("findProgram(%s) = %v, %v, want %q", tt.image, got, err, tt.want)
			}
		})
	}
}

func TestWriteAtomicallyReplacesAllFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	for _, files := range []map[string]string{
		{"a": "1", "b": "2"},
		{"a": "1", "b": "2"},
		{"a": "3", "sub/c": "4"},
		{},
		{"a": "5"},
	} {
		if err := writeAtomically(dir, files); err != nil {
			t.Fatal(err)
		}
		for name, want := range files {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
				t.Errorf("%s = %q, %v, want %q", name, got, err, want)
			}
		}
		entries, err := filepath.Glob(filepath.Join(dir, "[a-z]*"))
		if err != nil || len(entries) != len(files) {
			t.Errorf("the folder has %v, want %v", entries, slices.Sorted(maps.Keys(files)))
		}
		if generations, _ := filepath.Glob(filepath.Join(dir, "..2*")); len(generations) != 1 {
			t.Errorf("there are generations %v, want one", generations)
		}
	}
}
