package condition

import (
	"strings"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	for name, expr := range map[string]string{
		"two inputs":    "a && b",
		"twelve inputs": "a&&b&&c&&d&&e&&f&&g&&h&&i&&j&&k&&l",
		"twenty inputs": "a&&b&&c&&d&&e&&f&&g&&h&&i&&j&&k&&l&&m&&n&&o&&p&&q&&r&&s&&t",
		"ten inputs and ten comparisons": "a&&b&&c&&d&&e&&f&&g&&h&&i&&j&&(a.x=='1'||b.x=='1'||c.x=='1'||d.x=='1'||e.x=='1'||" +
			"f.x=='1'||g.x=='1'||h.x=='1'||i.x=='1'||j.x=='1')",
	} {
		b.Run(name, func(b *testing.B) {
			inputs := strings.Split("abcdefghijklmnopqrst", "")
			for b.Loop() {
				if _, err := Parse(expr, inputs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFires(b *testing.B) {
	for name, expr := range map[string]string{
		"boolean":    "a || b || c",
		"attribute":  "a.type == 'test'",
		"data field": "a.data.amount > 100",
	} {
		b.Run(name, func(b *testing.B) {
			c := mustParse(b, expr, "a", "b", "c")
			e := newEvent(b, "1", `{"amount":101,"customer":{"name":"x","items":[1,2,3]}}`)
			b.ReportAllocs()
			for b.Loop() {
				if !c.Fires(1, e) {
					b.Fatal("does not fire")
				}
			}
		})
	}
}

func BenchmarkArrive(b *testing.B) {
	for name, steps := range map[string][]uint64{"held": {1}, "matched pair": {1, 2}} {
		b.Run(name, func(b *testing.B) {
			c := mustParse(b, "a && b", "a", "b")
			w := NewWindow(c, WindowOptions{})
			e := newEvent(b, "1", "{}")
			b.ReportAllocs()
			for b.Loop() {
				for _, inputs := range steps {
					w.Arrive(Arrival{Inputs: inputs, Event: e, Stored: epoch})
				}
			}
		})
	}
}
