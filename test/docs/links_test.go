package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// TestLinksLeadSomewhere looks at relative links, also at the heading that they name.
func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	headings := map[string][]string{}
	for _, p := range all {
		for _, h := range matches(heading, p.withoutBlocks()) {
			headings[p.name] = append(headings[p.name], slug(h))
		}
	}
	for _, p := range all {
		for _, target := range matches(link, p.withoutBlocks()) {
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path, fragment, _ := strings.Cut(target, "#")
			to := p.name
			if path != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(p.name), path))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: link %s: %v", p.name, target, err)
				continue
			}
			if fragment != "" && !slices.Contains(headings[to], fragment) {
				t.Errorf("%s: link %s: %s has no such heading, it has %v", p.name, target, to, headings[to])
			}
		}
	}
}

// slug is the name of a heading in a link.
func slug(heading string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
			return unicode.ToLower(c)
		}
		return -1
	}, heading)
}

// matches returns the first group of every match, sorted.
func matches(re *regexp.Regexp, text string) []string {
	var all []string
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return all
}
