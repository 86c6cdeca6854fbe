package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInherit(t *testing.T) {
	// A subscriber is written "owner condition target", a result "id owner condition target".
	parse := func(lines ...string) *Plan {
		p := &Plan{Buses: []Bus{{Name: "bus", JetStream: &JetStream{URL: "nats://a"}}, {Name: "other", JetStream: &JetStream{URL: "nats://b"}}}}
		for _, line := range lines {
			f := strings.Fields(line)
			s := Subscriber{ID: "for-" + f[2], Trigger: "d/" + f[0], Bus: "bus", Condition: f[1], Topic: f[2]}
			if len(f) > 3 && f[3] == "waits" {
				s.Inputs, s.Topic = nil, ""
				p.Waiting = append(p.Waiting, s)
				continue
			}
			if len(f) > 3 {
				s.Bus = f[3]
			}
			p.Subscribers = append(p.Subscribers, s)
		}
		return p
	}
	for name, tt := range map[string]struct {
		plans [][]string
		want  string
	}{
		"nothing changes":       {[][]string{{"t a x", "t b y"}, {"t b y", "t a x"}}, "for-y y, for-x x"},
		"a target is edited":    {[][]string{{"t a x"}, {"t a y"}}, "for-x y"},
		"and again":             {[][]string{{"t a x"}, {"t a y"}, {"t a y"}, {"t a z"}}, "for-x z"},
		"and back":              {[][]string{{"t a x"}, {"t a y"}, {"t a x"}}, "for-x x"},
		"two are edited":        {[][]string{{"t a x", "t a y"}, {"t a v", "t a w"}}, "for-x v, for-y w"},
		"one of two is removed": {[][]string{{"t a x", "t a y"}, {"t a y"}}, "for-y y"},
		"one is added":          {[][]string{{"t a x"}, {"t a x", "t a y"}}, "for-x x, for-y y"},
		"a target is swapped":   {[][]string{{"t a x", "t b y"}, {"t a y", "t b x"}}, "for-y y, for-x x"},
		"a condition is edited": {[][]string{{"t a x"}, {"t b x"}}, "for-x x"},
		"another condition and target are another": {[][]string{{"t a x"}, {"t b y"}}, "for-y y"},
		"another trigger is another":               {[][]string{{"t a x"}, {"u a y"}}, "for-y y"},
		"what waits is not gone":                   {[][]string{{"t a x"}, {"t a x waits", "t a y"}}, "for-y y"},
		"what waits keeps an inherited name":       {[][]string{{"t a x"}, {"t a y"}, {"t b x", "t a y waits"}}, "for-x_edd224ec x"},
		"what goes leaves its name to nobody else": {[][]string{{"t a x"}, {"t a y"}, {"t b x"}}, "for-x_edd224ec x"},
		"another broker is another":                {[][]string{{"t a x"}, {"t a y other"}}, "for-y y"},
		"the old target comes again":               {[][]string{{"t a x"}, {"t a y"}, {"t a y", "t a x"}}, "for-x y, for-x_edd224ec x"},
		"and stays":                                {[][]string{{"t a x"}, {"t a y"}, {"t a y", "t a x"}, {"t a x", "t a y"}}, "for-x_edd224ec x, for-x y"},
	} {
		t.Run(name, func(t *testing.T) {
			var last *Plan
			for _, lines := range tt.plans {
				next := parse(lines...)
				hash := next.Hashes()["Trigger d/t"]
				if last != nil {
					next.inherit(last)
				}
				if next.Hashes()["Trigger d/t"] != hash {
					t.Error("the hash says that an inherited name is another plan")
				}
				last = next
			}
			var got []string
			for _, s := range last.Subscribers {
				got = append(got, s.ID+" "+s.Topic)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
