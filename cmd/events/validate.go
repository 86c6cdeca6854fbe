package main

import (
	"context"
	"fmt"
	"io"

	"github.com/openfunction/events/pkg/standalone"
)

func validateCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := newFlags("validate", "-f PATH...", "Validate checks files as a cluster's admission would, and whether the objects in them fit together.", stderr)
	paths := f.paths()
	if code, ok := f.parsePaths(args, stdout, paths); !ok {
		return code
	}
	config := standalone.Load(ctx, *paths)
	code := 0
	for _, p := range config.Check() {
		fmt.Fprintln(stderr, p)
		if !p.Warning {
			code = 1
		}
	}
	for _, o := range config.Objects {
		if !o.Invalid {
			fmt.Fprintf(stdout, "ok %s: %s\n", o.File, o.Name)
		}
	}
	if code == 0 && len(config.Objects) == 0 {
		fmt.Fprintf(stderr, "warning: %s\n", config.Nothing())
	}
	return code
}
