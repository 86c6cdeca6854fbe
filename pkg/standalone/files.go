package standalone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxFileBytes = 4 << 20
	maxDocuments = 10_000
)

// file is one file's content, or why it cannot be read.
type file struct {
	name string
	data []byte
	err  error
}

// digest tells whether files changed; it depends on names, contents and errors only.
func digest(files []file) [sha256.Size]byte {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d %v\n", f.name, len(f.data), f.err)
		h.Write(f.data)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// stdin is the path that means the standard input.
const stdin = "-"

// reader reads files. It keeps what came from pipes and the like, the standard input among them, since they can be read only once.
// The zero value is ready to use.
type reader struct {
	pipes map[string]file
}

// readAll reads the files, and in each directory, not below it, the YAML and JSON files that are not hidden.
func (r *reader) readAll(ctx context.Context, paths []string) []file {
	var files []file
	seen := map[string]bool{}
	for _, path := range paths {
		names, err := list(path)
		if err != nil {
			files = append(files, file{name: path, err: err})
			continue
		}
		for _, name := range names {
			if seen[filepath.Clean(name)] {
				continue
			}
			seen[filepath.Clean(name)] = true
			files = append(files, r.read(ctx, name))
		}
	}
	return files
}

func list(path string) ([]string, error) {
	if path == stdin {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, reason(err)
	}
	var names []string
	for _, e := range entries {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			continue
		}
		names = append(names, filepath.Join(path, e.Name()))
	}
	if len(names) == 0 {
		if slices.ContainsFunc(entries, fs.DirEntry.IsDir) {
			return nil, errors.New("no *.yaml, *.yml or *.json file in this directory; folders below it are not looked at: name them too")
		}
		return nil, errors.New("no *.yaml, *.yml or *.json file in this directory")
	}
	return names, nil
}

func (r *reader) read(ctx context.Context, name string) file {
	if f, ok := r.pipes[name]; ok {
		return f
	}
	info, err := os.Stat(name)
	if name != stdin && (err != nil || info.Mode().IsRegular() || info.IsDir()) {
		data, err := read(name)
		return file{name: name, data: data, err: err}
	}
	if r.pipes == nil {
		r.pipes = map[string]file{}
	}
	r.pipes[name] = readPipe(ctx, name)
	return r.pipes[name]
}

// readPipe is read until ctx is done. A pipe into which nobody writes blocks for good, and then so does the goroutine.
func readPipe(ctx context.Context, name string) file {
	done := make(chan file, 1)
	go func() {
		data, err := read(name)
		done <- file{name: name, data: data, err: err}
	}()
	select {
	case f := <-done:
		return f
	case <-ctx.Done():
		return file{name: name, err: ctx.Err()}
	}
}

func read(name string) ([]byte, error) {
	f := os.Stdin
	if name != stdin {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, reason(err)
		}
		defer f.Close()
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, reason(err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("more than %d MiB: split the file", maxFileBytes>>20)
	}
	return data, nil
}

// reason drops the path from err: a Problem names it already.
func reason(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// chunk is the text of one document and the number of lines before it.
type chunk struct {
	data   []byte
	before int
}

// chunks splits a file at its --- and ... lines, so that a document that does not parse hides no other.
func chunks(data []byte) []chunk {
	var out []chunk
	current, line := chunk{}, 0
	for text := range bytes.Lines(data) {
		if isMark(text, "---") {
			out = append(out, current)
			current = chunk{before: line}
		}
		current.data = append(current.data, text...)
		line++
		if isMark(text, "...") {
			out = append(out, current)
			current = chunk{before: line}
		}
	}
	return slices.DeleteFunc(append(out, current), func(c chunk) bool { return isBlank(c.data) })
}

func isMark(line []byte, mark string) bool {
	return bytes.HasPrefix(line, []byte(mark)) && (len(line) == len(mark) || strings.ContainsRune(" \t\n", rune(line[len(mark)])))
}

// isBlank tells whether text has no content: only comments, directives and document marks.
func isBlank(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("---")) && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}
