package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"

	"knative.dev/pkg/apis"
)

// Problem is one thing that validation has to say about one field.
//
// +k8s:deepcopy-gen=false
type Problem struct {
	// Path of the field, for example spec.kafka[sample-one].brokers.
	Path string
	// Message says what is wrong, why, and what to do.
	Message string
	// Warning is true when the object is accepted all the same.
	Warning bool
}

// String returns "path: message".
func (p Problem) String() string { return p.Path + ": " + p.Message }

// Flatten returns what err holds as a list with one path per problem, ordered by path, then message. It returns nil for nil.
func Flatten(err *apis.FieldError) []Problem {
	var problems []Problem
	for _, e := range err.WrappedErrors() {
		message := e.Message
		if e.Details != "" {
			message += ": " + e.Details
		}
		for _, path := range e.Paths {
			problems = append(problems, Problem{Path: path, Message: message, Warning: e.Level == apis.WarningLevel})
		}
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return problems
}

// report collects problems at and below a path. Paths are written from the top down: ViaField, which writes them from the bottom up,
// takes the dots of a wrong name for separators.
type report struct {
	path  string
	found *[]*apis.FieldError
}

func newReport() report { return report{found: new([]*apis.FieldError)} }

func (r report) field(name string) report {
	if r.path == "" {
		return report{name, r.found}
	}
	return report{r.path + "." + name, r.found}
}

func (r report) key(name string) report { return report{r.path + "[" + name + "]", r.found} }

func (r report) index(i int) report { return report{fmt.Sprintf("%s[%d]", r.path, i), r.found} }

func (r report) errorf(format string, args ...any) { r.add(apis.ErrorLevel, format, args...) }

func (r report) warnf(format string, args ...any) { r.add(apis.WarningLevel, format, args...) }

func (r report) add(level apis.DiagnosticLevel, format string, args ...any) {
	*r.found = append(*r.found, &apis.FieldError{Message: fmt.Sprintf(format, args...), Paths: []string{r.path}, Level: level})
}

// result returns all that was found, or nil.
func (r report) result() *apis.FieldError {
	var all *apis.FieldError
	return all.Also(*r.found...)
}
