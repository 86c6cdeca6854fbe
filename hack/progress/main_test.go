package main

import (
	"strings"
	"testing"
)

func TestShow(t *testing.T) {
	const in = `not JSON
{"Action":"run","Package":"github.com/openfunction/events/a","Test":"T"}
{"Action":"output","Package":"github.com/openfunction/events/a","Test":"T","Output":"=== RUN   T\n"}
{"Action":"output","Package":"github.com/openfunction/events/a","Test":"T","Output":"in "}
{"Action":"output","Package":"github.com/openfunction/events/b","Output":"of another\n"}
{"Action":"pass","Package":"github.com/openfunction/events/a","Test":"T"}
{"Action":"output","Package":"github.com/openfunction/events/a","Output":"parts\n"}
{"Action":"output","Package":"github.com/openfunction/events/a","Output":"signal: "}
{"Action":"output","Package":"github.com/openfunction/events/a","Output":"killed"}
{"Action":"fail","Package":"github.com/openfunction/events/a"}
{"ImportPath":"github.com/openfunction/events/c","Action":"build-output","Output":"c.go:1: no"}
{"ImportPath":"github.com/openfunction/events/c","Action":"build-fail"}
{"Action":"output","Package":"github.com/openfunction/events/b","Output":"later\n"}
{"Action":"output","Package":"github.com/openfunction/events/d","Output":"cut off"}
`
	const want = "not JSON\nb: of another\na: in parts\na: signal: killed\nc: c.go:1: no\nb: later\nd: cut off\n"
	var got strings.Builder
	if err := show(strings.NewReader(in), &got); err != nil || got.String() != want {
		t.Errorf("show() = %v and\n%swant\n%s", err, got.String(), want)
	}
}
