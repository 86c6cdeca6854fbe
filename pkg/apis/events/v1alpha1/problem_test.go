package v1alpha1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"knative.dev/pkg/apis"
)

func TestFlatten(t *testing.T) {
	if got := Flatten(nil); got != nil {
		t.Errorf("Flatten(nil) = %v, want nil", got)
	}
	err := apis.ErrMissingField("b", "a").
		Also(&apis.FieldError{Message: "is wrong", Details: "it is odd", Paths: []string{"c[x.y].d"}}).
		Also((&apis.FieldError{Message: "is a pity", Paths: []string{"a"}}).At(apis.WarningLevel))
	want := []Problem{
		{Path: "a", Message: "is a pity", Warning: true},
		{Path: "a", Message: "missing field(s)"},
		{Path: "b", Message: "missing field(s)"},
		{Path: "c[x.y].d", Message: "is wrong: it is odd"},
	}
	if diff := cmp.Diff(Flatten(err), want); diff != "" {
		t.Errorf("Flatten() (-got +want):\n%s", diff)
	}
}

func TestReportKeepsDotsInKeys(t *testing.T) {
	r := newReport()
	r.field("spec").field("cron").key("every.hour").field("schedule").errorf("is odd")
	r.field("spec").field("subscribers").index(1).warnf("is a pity")
	want := []Problem{
		{Path: "spec.cron[every.hour].schedule", Message: "is odd"},
		{Path: "spec.subscribers[1]", Message: "is a pity", Warning: true},
	}
	if diff := cmp.Diff(Flatten(r.result()), want); diff != "" {
		t.Errorf("Flatten() (-got +want):\n%s", diff)
	}
}
