// Program progress reads what `go test -json` writes and prints what a person wants to watch of packages that are tested at once: tests as they
// end, their logs, and failures, each line after its package.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

const module = "github.com/openfunction/events/"

// event is what we need of test2json's; go build's have an ImportPath instead of a package.
type event struct{ Action, Package, ImportPath, Output string }

var noise = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME)|testing: warning: no tests to run|ok .*\[no tests to run\]|PASS$|\?  )`)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	parts := map[string]string{} // the beginning of each package's line, which comes in parts
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text())
			continue
		}
		of := strings.TrimPrefix(e.Package+e.ImportPath, module)
		text := parts[of] + e.Output
		line, end := strings.CutSuffix(text, "\n")
		if !end {
			parts[of] = text
			continue
		}
		delete(parts, of)
		if !noise.MatchString(line) {
			fmt.Printf("%s: %s\n", of, line)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "progress:", err)
		os.Exit(1)
	}
}
