package standalone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClaimHoldsADirectoryForOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(dir); err == nil || !strings.Contains(err.Error(), "is used by the process ") {
		t.Errorf("second claim() = %v, want who uses it", err)
	}
	release()
	again, err := claim(dir)
	if err != nil {
		t.Fatalf("claim() after release = %v", err)
	}
	again()
	if left, err := os.ReadDir(filepath.Join(dir, "bus")); err != nil || len(left) != 0 {
		t.Errorf("claim() left %v, %v in the directory", left, err)
	}
}

func TestClaimOfWhatCannotBeUsed(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "file", "")
	for dir, want := range map[string]string{
		"file":       "data directory file: not a directory",
		"file/below": "data directory file/below: ",
	} {
		if _, err := claim(dir); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("claim(%s) = %v, want %s", dir, err, want)
		}
	}
	release, err := claim("")
	if err != nil {
		t.Fatalf("claim of no directory = %v", err)
	}
	release()
}
