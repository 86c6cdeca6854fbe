package standalone

import (
	"context"
	"encoding/binary"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"
)

const twoBuses = "apiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\nmetadata: {name: a}\nspec: {embedded: {}}\n---\n" +
	"apiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\nmetadata: {name: ü}\nspec: {embedded: {}}\n"

func TestFilesOfEveryEditor(t *testing.T) {
	t.Chdir(t.TempDir())
	wide := func(order binary.AppendByteOrder) string {
		var b []byte
		for _, u := range utf16.Encode([]rune("\ufeff" + twoBuses)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	good := "in.yaml:8: EventBus default/ü: metadata.name: \"ü\" cannot be a name here"
	tests := []struct{ name, data, want string }{
		{"UTF-8", twoBuses, good},
		{"UTF-8 with a byte order mark", "\ufeff" + twoBuses, good},
		{"lines that end as on Windows", strings.ReplaceAll(twoBuses, "\n", "\r\n"), good},
		{"lines that end as on an old Macintosh", strings.ReplaceAll(twoBuses, "\n", "\r"), good},
		{"UTF-16, as PowerShell writes", wide(binary.LittleEndian), good},
		{"UTF-16 the other way round", wide(binary.BigEndian), good},
		{"UTF-16 that is cut off", wide(binary.LittleEndian)[:101], "in.yaml: begins as UTF-16 and ends within a character"},
		{"a program", "\x7fELF\x02\x01\x00\x00", "in.yaml: is not text in UTF-8"},
		{"another encoding", strings.ReplaceAll(twoBuses, "ü", "\xfc"), "in.yaml: is not text in UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			write(t, "in.yaml", tt.data)
			if got := report(Load(t.Context(), []string{"in.yaml"})); !strings.HasPrefix(got, tt.want) {
				t.Errorf("Load() = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestAPipeIsReadOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile("pipe", []byte(twoBuses), 0o600) }()
	var r reader
	first := r.load(t.Context(), []string{"pipe"})
	second := r.load(t.Context(), []string{"pipe"})
	if len(first.Objects) != 2 || first.digest != second.digest {
		t.Errorf("%d objects at first and %d then, want 2 each", len(first.Objects), len(second.Objects))
	}
}

func TestAPipeThatNobodyFillsEndsWithItsContext(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if got := report(Load(ctx, []string{"pipe"})); got != "pipe: context deadline exceeded\n" {
		t.Errorf("Load() = %q", got)
	}
	// Let go of the goroutine that reads.
	w, err := os.OpenFile("pipe", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
}

func TestAMistakeInALongFileIsFoundFast(t *testing.T) {
	long := "a:\n" + strings.Repeat("  b: {c: [d, e]}\n", 50_000) + " z: 1\n"
	start := time.Now()
	got := parse(chunk{data: []byte(long)})
	if len(got.mistakes) != 1 || got.mistakes[0].Line < 1 {
		t.Errorf("parse() = %v", got.mistakes)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("parse() took %s", took)
	}
}
