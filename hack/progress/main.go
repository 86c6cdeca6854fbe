// Program progress reads what `go test -json` writes and prints what a person wants to watch of packages that are tested at once: tests as they
// end, their logs, and failures, each line after its package.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

const module = "github.com/openfunction/events/"

// event is what we need of test2json's; go build's have an ImportPath instead of a package.
type event struct{ Action, Package, ImportPath, Test, Output string }

// ended tells whether nothing of the package follows.
func (e event) ended() bool {
	return e.Test == "" && slices.Contains([]string{"pass", "fail", "skip", "build-fail"}, e.Action)
}

var noise = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME)|testing: warning: no tests to run|ok .*\[no tests to run\]|PASS$|\?  )`)

func main() {
	if err := show(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "progress:", err)
		os.Exit(1)
	}
}

// show writes what is worth it of in to out, until in ends.
func show(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	parts := map[string]string{} // the beginning of each package's line, which comes in parts
	say := func(of, line string) {
		delete(parts, of)
		if !noise.MatchString(line) {
			_, _ = fmt.Fprintf(out, "%s: %s\n", of, line)
		}
	}
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			_, _ = fmt.Fprintln(out, lines.Text())
			continue
		}
		of := strings.TrimPrefix(e.Package+e.ImportPath, module)
		text := parts[of] + e.Output
		line, end := strings.CutSuffix(text, "\n")
		switch {
		case text == "":
		case end || e.ended(): // what was written last may have no end, as when a process is killed
			say(of, line)
		default:
			parts[of] = text
		}
	}
	for _, of := range slices.Sorted(maps.Keys(parts)) {
		say(of, parts[of])
	}
	return lines.Err()
}
