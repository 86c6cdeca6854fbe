package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADirectoryThatCannotBeUsedIsSaidAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Options{Dir: filepath.Join(file, "below")}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Start() = %v, want an error that names %s", err, file)
	}
}

func TestATemporaryDirectoryIsRemoved(t *testing.T) {
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := s.temporary
	s.Close()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("after Close, Stat(%s) = %v, want that it does not exist", dir, err)
	}
}
