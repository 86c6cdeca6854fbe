package standalone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lockName is the file in a data directory that its owner holds. It stays there: only the lock on it counts.
const lockName = "lock"

var errLocked = errors.New("locked")

// claim makes the data directory dir this process's own until release, or until the process ends in any way. Two processes in one
// directory would spoil each other's data.
func claim(dir string) (release func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, "bus"), 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, because(dir, err))
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, because(dir, err))
	}
	switch err := lock(f); {
	case errors.Is(err, errLocked):
		defer f.Close()
		return nil, fmt.Errorf("data directory %s: is used by %s: stop that, or choose another directory", dir, owner(f))
	case err != nil:
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s: lock: %w", dir, err)
	}
	if err := own(f, dir); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s: %w", dir, because(dir, err))
	}
	return func() { _ = f.Close() }, nil
}

// own writes who holds the lock into it, and finds out whether the bus can write.
func own(f *os.File, dir string) error {
	// Always as many bytes: what is written in place needs no room, of which there may be none.
	if _, err := fmt.Fprintf(f, "%-20d\n", os.Getpid()); err != nil {
		return err
	}
	probe, err := os.CreateTemp(filepath.Join(dir, "bus"), ".probe-")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func owner(f *os.File) string {
	pid := make([]byte, 20)
	n, _ := f.Read(pid) // nobody knows is an answer too
	if text := strings.TrimSpace(string(pid[:n])); text != "" {
		return "the process " + text
	}
	return "another process"
}

// because drops the path from err if it is dir, which is named already.
func because(dir string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok && filepath.Clean(pathErr.Path) == filepath.Clean(dir) {
		return pathErr.Err
	}
	return err
}
