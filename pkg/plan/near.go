package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// near says which EventSources the writer of o may have meant. It tells a namespace only of those that it may use, unless
// one reader knows them all.
func (c *compiler) near(o object, namespace string) string {
	var here, elsewhere []string
	for other, es := range c.eventSources {
		if !c.opts.OneReader && !allows(es, namespace) {
			continue
		}
		switch {
		case other.namespace == o.namespace:
			here = append(here, other.name)
		case other.name == o.name:
			elsewhere = append(elsewhere, other.namespace)
		}
	}
	if len(elsewhere) > 0 {
		slices.Sort(elsewhere)
		if !allows(c.eventSources[object{o.kind, elsewhere[0], o.name}], namespace) {
			return fmt.Sprintf("; there is %s/%s: set namespace: %s, and add %s to the spec.allowedNamespaces there", elsewhere[0], o.name, elsewhere[0], namespace)
		}
		return fmt.Sprintf("; there is %s/%s: set namespace: %s to use it", elsewhere[0], o.name, elsewhere[0])
	}
	if len(here) == 0 { // or none that it may know of
		return ""
	}
	return thereAre(closest(o.name, here))
}

// thereAre lists at most five names.
func thereAre(names []string) string {
	switch n := len(names); {
	case n == 0:
		return "; there are none"
	case n > 5:
		return fmt.Sprintf("; there are: %s and %d more", strings.Join(names[:5], ", "), n-5)
	}
	return "; there are: " + strings.Join(names, ", ")
}

// closest returns the names that read most like name first.
func closest(name string, names []string) []string {
	return slices.SortedFunc(slices.Values(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(distance(name, a), distance(name, b)), cmp.Compare(a, b))
	})
}

// distance is how many bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
