package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// writeAtomically makes dir hold files as the kubelet does: dir/<first part> is a link into dir/..data, which is a link to a folder
// that never changes. A reader sees all of the old files or all of the new ones. It does nothing if nothing changed.
func writeAtomically(dir string, files map[string]string) error {
	data := filepath.Join(dir, "..data")
	if same(data, files) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, _ := os.Readlink(data)
	next := time.Now().Format("..2006_01_02_15_04_05.000000000")
	for name, content := range files {
		path := filepath.Join(dir, next, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, next), 0o755); err != nil {
		return err
	}
	if err := replaceLink(next, data); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		wanted[first] = true
		if err := replaceLink(filepath.Join("..data", first), filepath.Join(dir, first)); err != nil {
			return err
		}
	}
	return removeOthers(dir, old, wanted)
}

func replaceLink(target, path string) error {
	if got, err := os.Readlink(path); err == nil && got == target {
		return nil
	}
	next := filepath.Join(filepath.Dir(path), "..next")
	_ = os.Remove(next)
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// removeOthers removes the folder that was the data and the links to files that are gone.
func removeOthers(dir, old string, wanted map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !wanted[e.Name()] && !strings.HasPrefix(e.Name(), "..") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if old != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, old)))
	}
	return err
}

// same reports whether the folder data holds files and no other.
func same(data string, files map[string]string) bool {
	folder, err := filepath.EvalSymlinks(data)
	if err != nil {
		return false
	}
	count := 0
	err = filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		count++
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(path)
		if want, ok := files[name]; err != nil || !ok || string(got) != want {
			return errors.New("differs")
		}
		return nil
	})
	return err == nil && count == len(files)
}
