package standalone

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestWatchSeesWhatChanged(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("d", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, "d/a.yaml", "a")
	write(t, "one.yaml", "1")
	paths := []string{"d", "one.yaml"}
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan struct{}, 10), make(chan struct{})
	before := digest(new(reader).readAll(t.Context(), paths))
	// A change between the first reading and the watch counts too.
	write(t, "one.yaml", "2")
	go func() {
		defer close(done)
		new(reader).watch(ctx, paths, before, func() { changes <- struct{}{} })
	}()
	steps := []struct {
		name   string
		change func()
	}{
		{"a change before the watch began", func() {}},
		{"another content of the same size", func() { write(t, "one.yaml", "3") }},
		{"a new file in a directory", func() { write(t, "d/b.yaml", "b") }},
		{"a file that is gone", func() { _ = os.Remove("one.yaml") }},
		{"a file that is back", func() { write(t, "one.yaml", "3") }},
	}
	for _, s := range steps {
		s.change()
		select {
		case <-changes:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not seen", s.name)
		}
	}
	cancel()
	<-done
}

func TestDigestIsOfContentsOnly(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "a.yaml", "a")
	before := digest(new(reader).readAll(t.Context(), []string{"a.yaml"}))
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes("a.yaml", later, later); err != nil {
		t.Fatal(err)
	}
	if digest(new(reader).readAll(t.Context(), []string{"a.yaml"})) != before {
		t.Error("a file that was only touched has another digest")
	}
}
