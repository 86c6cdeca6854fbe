package embedded

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"runtime"
)

// force forces the files of c, and the directories that they are in, to disk: the server may have left that for later.
func (s *Server) force(c *contents) error {
	dirs := map[string]bool{}
	for name := range c.Files {
		name = path.Join(storeDir, name)
		if err := forceFile(filepath.Join(s.options.Dir, filepath.FromSlash(name))); err != nil {
			return err
		}
		for name != "." {
			name = path.Dir(name)
			dirs[name] = true
		}
	}
	for dir := range dirs {
		if err := forceDir(filepath.Join(s.options.Dir, filepath.FromSlash(dir))); err != nil {
			return err
		}
	}
	return nil
}

func forceFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func forceDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil // knows no such thing
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
