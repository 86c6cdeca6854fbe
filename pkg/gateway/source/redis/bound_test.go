package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
)

func TestAnAnswerIsBounded(t *testing.T) {
	for answer, want := range map[string]string{
		"+OK\r\n":              "",
		"HTTP/1.1 400":         "an answer that is not of Redis",
		"+OK\r\nx":             "an answer that is not of Redis",
		"$-1\r\n*-1\r\n:5\r\n": "",
		"*2\r\n$12\r\n$99999999\r\n\x00\r\n:1\r\n": "", // what a string holds announces nothing
		"$0\r\n\r\n$3\r\na\nb\r\n":                 "",
		"-ERR $99999999\r\n":                       "",
		"$33554432\r\n":                            "",
		"*1\r\n$33554433\r\n":                      "an answer with a string of 33554433",
		"$1\r\nx\r\n$9223372036854775807\r\n":      "an answer with a string of 9223372036854775807",
		"*1048577\r\n":                             "an answer with a list of 1048577",
		"+" + strings.Repeat("x", maxLine):         "an answer with a line of 65537",
	} {
		for _, step := range []int{1, 7, len(answer)} {
			var c bound
			var got error
			passed := 0
			for rest := answer; rest != "" && got == nil; {
				part := rest[:min(step, len(rest))]
				var n int
				n, got = c.pass([]byte(part))
				passed, rest = passed+n, rest[len(part):]
			}
			if text := strings.TrimPrefix(fmt.Sprint(got), "<nil>"); text != want {
				t.Errorf("%.40q by %d bytes: %v, want %q", answer, step, got, want)
			}
			if want == "" && passed != len(answer) || want != "" && passed >= len(answer) {
				t.Errorf("%.40q by %d bytes: %d bytes were passed on", answer, step, passed)
			}
		}
	}
}

// What is too large is not read, is said, and holds up nothing once somebody has done what was said.
func TestAnEntryThatIsTooLargeIsNotRead(t *testing.T) {
	for way, cure := range map[string][]any{"stream": {"xdel", "orders", "1-1"}, "list": {"del", "{orders}:processing:" + New(options("list", "orders")).consumer()}, "channel": nil} {
		t.Run(way, func(t *testing.T) {
			m, c := server(t)
			s := &runtest.Sink{}
			r := start(t, options(way, "orders", m.Addr()), s)
			r.AwaitReady(true)
			large := strings.Repeat("x", maxString+1)
			if way == "stream" {
				if _, err := m.XAdd("orders", "1-1", []string{"data", large}); err != nil {
					t.Fatal(err)
				}
			} else if err := push(c, way, "orders", large); err != nil {
				t.Fatal(err)
			}
			if err := r.AwaitReady(false).Error(); !strings.Contains(err, "the server sends 33554433 bytes at once, of which 33554432 are read at most: ") {
				t.Errorf("ready(%s), want how large it is", err)
			}
			if cure != nil {
				if err := c.Do(t.Context(), cure...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			r.AwaitReady(true)
			if err := push(c, way, "orders", "small"); err != nil {
				t.Fatal(err)
			}
			runtest.Eventually(t, "another event", func() bool { return s.Count("small") == 1 })
			if n := s.Count(large); n != 0 {
				t.Errorf("what is too large was taken %d times", n)
			}
		})
	}
}
