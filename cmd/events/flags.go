package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/openfunction/events/pkg/plan"
)

// flags are the options of one command.
type flags struct {
	*flag.FlagSet
	arguments, about string
	stderr           io.Writer
}

func newFlags(name, arguments, about string, stderr io.Writer) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), arguments: arguments, about: about, stderr: stderr}
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	return f
}

// parse reads args. When it returns false the command is over, with this exit code.
func (f *flags) parse(args []string, stdout io.Writer) (code int, ok bool) {
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, f.help())
		return 0, false
	case err != nil:
		return f.misused("%s", f.explain(err.Error())), false
	}
	return 0, true
}

var (
	unknownFlag = regexp.MustCompile(`^flag provided but not defined: -(.*)$`)
	namedFlag   = regexp.MustCompile(`(for|for flag|argument:) -(\S\S+?)(: .*|)$`)
)

// explain says in our words what the flag package found wrong.
func (f *flags) explain(message string) string {
	if m := unknownFlag.FindStringSubmatch(message); m != nil {
		var names []string
		f.VisitAll(func(o *flag.Flag) { names = append(names, o.Name) })
		if near := plan.Nearest(m[1], names); near != "" {
			return fmt.Sprintf("unknown flag --%s; did you mean --%s?", m[1], near)
		}
		return fmt.Sprintf("unknown flag --%s", m[1])
	}
	m := namedFlag.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	start, why := strings.TrimSuffix(message, m[0]), m[3]
	if want := f.want(m[2]); want != "" && (why == ": parse error" || why == ": value out of range") {
		why = ": want " + want
	}
	return start + m[1] + " --" + m[2] + why
}

// want says what the values of an option are.
func (f *flags) want(name string) string {
	o := f.Lookup(name)
	if o == nil {
		return ""
	}
	getter, ok := o.Value.(flag.Getter)
	if !ok {
		return ""
	}
	switch getter.Get().(type) {
	case time.Duration:
		return "a duration, for example 3s"
	case float64:
		return "a number"
	case int:
		return "a whole number"
	case bool:
		return "true or false"
	}
	return ""
}

// origin names the option, or the environment variable when the value is from there.
func (f *flags) origin(name string) string {
	if f.given(name) {
		return "--" + name
	}
	return "EVENTS_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// given tells whether the option stands on the command line.
func (f *flags) given(name string) bool {
	found := false
	f.Visit(func(o *flag.Flag) { found = found || o.Name == name })
	return found
}

// misused reports options that were not understood and returns the exit code.
func (f *flags) misused(format string, args ...any) int {
	fmt.Fprintf(f.stderr, "events %s: %s\nSee: events help %s\n", f.Name(), fmt.Sprintf(format, args...), f.Name())
	return 2
}

// failed reports why the command could not do what it was asked to and returns the exit code.
func (f *flags) failed(err error) int {
	fmt.Fprintf(f.stderr, "events %s: %v\n", f.Name(), err)
	return 1
}

func (f *flags) help() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Usage: events %s\n\n%s\n", strings.TrimSpace(f.Name()+" "+f.arguments), f.about)
	f.SetOutput(&b)
	b.WriteString("\n")
	f.PrintDefaults()
	f.SetOutput(io.Discard)
	return longFlag.ReplaceAllString(b.String(), "  --$1")
}

// longFlag begins the line of an option whose name is not one letter; the flag package writes one dash.
var longFlag = regexp.MustCompile(`(?m)^  -(\w[\w-]+)`)

// paths adds the option -f, which takes several paths up to the next option, and may be repeated.
func (f *flags) paths() *list {
	paths := &list{}
	f.Var(paths, "f", "file or directory with YAML or JSON; `PATH`s may follow each other, and the option may be repeated")
	return paths
}

// parsePaths is parse for a command whose arguments are paths too: those that follow -f and those that stand anywhere else.
func (f *flags) parsePaths(args []string, stdout io.Writer, paths *list) (code int, ok bool) {
	for {
		if code, ok := f.parse(args, stdout); !ok {
			return code, false
		}
		if f.NArg() == 0 {
			break
		}
		// The flag package stops at the first argument; options may follow it.
		*paths = append(*paths, f.Arg(0))
		args = f.Args()[1:]
	}
	if len(*paths) == 0 {
		return f.misused("no file given: want -f PATH"), false
	}
	return 0, true
}

// list is the value of an option that may be repeated.
type list []string

// String returns the values so far.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set adds a value.
func (l *list) Set(value string) error {
	if value == "" {
		return errors.New("want a value")
	}
	*l = append(*l, value)
	return nil
}
