package standalone

import (
	"fmt"
	"strings"
)

// Problem is one mistake, or with Warning one thing to know, and where it is.
type Problem struct {
	File string
	Line int
	// Object is "Kind namespace/name", or empty when the text is not an object yet.
	Object string
	// Path of the field, for example spec.subscribers[1].condition; empty means the whole object.
	Path    string
	Message string
	Warning bool
	// Waits tells that nothing is wrong but a Secret, or a key of it, that the files do not have or that holds something else: all else can run.
	Waits bool
}

// String is the problem in one line: FILE:LINE: Object: path: message.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.File != "" {
		b.WriteString(": ")
	}
	if p.Warning {
		b.WriteString("warning: ")
	}
	for _, part := range []string{p.Object, p.Path} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(strings.Join(strings.Fields(p.Message), " "))
	return b.String()
}

// InvalidError is what declared objects cannot work for. It is one problem per line.
type InvalidError struct {
	Problems []Problem
	// Last is what else there is to say, or empty.
	Last string
}

// Error lists the problems, and then says the last.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	if e.Last != "" {
		lines = append(lines, e.Last)
	}
	return strings.Join(lines, "\n")
}

// split separates mistakes, with which nothing is applied, and what only waits from warnings.
func split(problems []Problem) (mistakes, waits, warnings []Problem) {
	for _, p := range problems {
		switch {
		case p.Warning:
			warnings = append(warnings, p)
		case p.Waits:
			waits = append(waits, p)
		default:
			mistakes = append(mistakes, p)
		}
	}
	return mistakes, waits, warnings
}
