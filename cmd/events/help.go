package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

const usage = `Events runs, checks and feeds declared events on one machine, without a cluster.

  events run -f PATH...         run what the files declare, until a signal
  events validate -f PATH...    check the files, with the answers that a cluster gives
  events send --to URL          send CloudEvents
  events version                print the version
  events help COMMAND           show the options of a command

Start with: events run -f config/samples/quickstart.yaml
`

func helpCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if args[0] == "help" {
		return helpCommand(ctx, nil, stdout, stderr)
	}
	return run(ctx, []string{args[0], "-h"}, stdout, stderr)
}

// version is set when a release is linked.
var version = ""

func versionCommand(args []string, stdout, stderr io.Writer) int {
	f := newFlags("version", "", "Version prints the version of this program.", stderr)
	if code, ok := f.parse(args, stdout); !ok {
		return code
	}
	if f.NArg() > 0 {
		return f.misused("argument %q: not understood", f.Arg(0))
	}
	v := version
	if info, ok := debug.ReadBuildInfo(); v == "" && ok {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	fmt.Fprintf(stdout, "events %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return 0
}
