package plan_test

import (
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/plan"
)

func TestNearest(t *testing.T) {
	known := []string{"brokers", "topic", "consumerGroup"}
	for name, want := range map[string]string{"brokrs": "brokers", "BROKERS": "brokers", "consumergroup": "consumerGroup", "toppic": "topic", "tpoic": "topic", "group": "consumerGroup", "sink": "",
		strings.Repeat("brokers", 20): ""} {
		if got := plan.Nearest(name, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
