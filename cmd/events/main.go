// Command events runs, checks and feeds declared events on one machine, without a cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/openfunction/events/pkg/plan"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	// A terminal that is closed hangs up. Who had that ignored, such as nohup, wants the program to go on.
	if signal.Notify(signals, os.Interrupt, syscall.SIGTERM); !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
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
	if name == "run" { // which knows itself what to do when it cannot write
		return runCommand(ctx, args, stdout, stderr)
	}
	out := &output{to: stdout}
	code := once(ctx, name, args, out, stderr)
	// A reader that has gone away, such as head, has seen enough.
	if out.err != nil && !errors.Is(out.err, syscall.EPIPE) {
		fmt.Fprintf(stderr, "events %s: %v\n", name, out.err)
		return max(code, 1)
	}
	return code
}

// output remembers why it could not write.
type output struct {
	to  io.Writer
	err error
}

// Write writes to where the output goes.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// once executes a command that ends by itself.
func once(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	switch name {
	case "validate":
		return validateCommand(ctx, args, stdout, stderr)
	case "send":
		return sendCommand(ctx, args, stdout, stderr)
	case "version", "-version", "--version":
		return versionCommand(args, stdout, stderr)
	case "help", "-h", "-help", "--help":
		return helpCommand(ctx, args, stdout, stderr)
	}
	if near := plan.Nearest(name, []string{"run", "validate", "send", "version", "help"}); near != "" {
		fmt.Fprintf(stderr, "events: unknown command %q; did you mean %q?\n", name, near)
		return 2
	}
	fmt.Fprintf(stderr, "events: unknown command %q\n\n%s", name, usage)
	return 2
}
