package lanes

import (
	"slices"
	"testing"
)

func TestLanesKeepOrderUntilSomethingEndsThem(t *testing.T) {
	var l Lanes
	var begun []func()
	var ran []string
	add := func(key, name string, goOn bool) {
		l.Add(key, func() bool { ran = append(ran, name); return goOn }, func(f func()) { begun = append(begun, f) })
	}
	add("a", "a1", true)
	add("b", "b1", false)
	add("a", "a2", true)
	add("b", "b2", true)
	for _, f := range begun {
		f()
	}
	if want := []string{"a1", "a2", "b1"}; len(begun) != 2 || !slices.Equal(ran, want) {
		t.Errorf("%d began, and %v ran; want 2, and %v", len(begun), ran, want)
	}
	add("a", "a3", true)
	if len(begun) != 3 {
		t.Error("a lane that was empty did not begin anew")
	}
}
