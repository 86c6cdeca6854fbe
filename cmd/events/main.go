// Command events runs, checks and feeds declared events on one machine, without a cluster.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/openfunction/events/pkg/standalone"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// A reader of stdout that has gone away is an error of the write, and no reason to die without draining.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		<-signals // the first one asks to drain
		stop()
		second := <-signals
		os.Exit(128 + int(second.(syscall.Signal)))
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command and returns the exit code: 0 when it did what it was asked to, 1 when it could not, 2 when it was not
// understood.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	name, args := args[0], args[1:]
	switch name {
	case "run":
		return runCommand(ctx, args, stdout, stderr)
	case "validate":
		return validateCommand(ctx, args, stdout, stderr)
	case "send":
		return sendCommand(ctx, args, stdout, stderr)
	case "version", "-version", "--version":
		return versionCommand(args, stdout, stderr)
	case "help", "-h", "-help", "--help":
		return helpCommand(ctx, args, stdout, stderr)
	}
	if near := standalone.Nearest(name, []string{"run", "validate", "send", "version", "help"}); near != "" {
		fmt.Fprintf(stderr, "events: unknown command %q; did you mean %q?\n", name, near)
		return 2
	}
	fmt.Fprintf(stderr, "events: unknown command %q\n\n%s", name, usage)
	return 2
}
