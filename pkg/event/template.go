package event

import (
	"fmt"
	"net/textproto"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxTemplate bounds, in bytes, a template and what becomes of it.
const maxTemplate = 1 << 10

// Template makes an attribute of what was posted: text that may hold ${header.NAME}, ${query.NAME} and ${data.PATH}. It is safe for
// concurrent use.
type Template struct {
	// parts are texts and placeholders in turn; a template that is text alone has none.
	text  string
	parts []part
}

// part is a text, or a placeholder if its kind is set.
type part struct {
	text string
	kind string
	// name of a header or of a query parameter, path into the data
	name string
	path []string
}

// Posted is where a Template finds what it names. It is for one goroutine.
type Posted struct {
	// Header and Query return the first value of that name, or nothing.
	Header func(name string) string
	Query  func(name string) string
	// Body is read as JSON, once, when a template asks for data; what is not JSON has none.
	Body []byte

	read bool
	data any
}

// ParseTemplate reads a template. Its error is for whoever wrote s: it tells the column and what is allowed there.
func ParseTemplate(s string) (*Template, error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("it has %d bytes: at most %d are allowed", len(s), maxTemplate)
	}
	if at := illegal(s); at >= 0 {
		return nil, mistake(s, at, "a character that no attribute may have: use printable ones, in UTF-8")
	}
	t := &Template{text: s}
	end := 0
	for {
		start := strings.Index(s[end:], "${")
		if start < 0 {
			break
		}
		start += end
		length := strings.IndexByte(s[start:], '}')
		if length < 0 {
			return nil, mistake(s, start, "${ is not closed: write } after the name")
		}
		p, err := placeholder(s[start+len("${") : start+length])
		if err != nil {
			return nil, mistake(s, start, err.Error())
		}
		if start > end {
			t.parts = append(t.parts, part{text: s[end:start]})
		}
		t.parts = append(t.parts, p)
		end = start + length + 1
	}
	if t.parts != nil && end < len(s) {
		t.parts = append(t.parts, part{text: s[end:]})
	}
	return t, nil
}

func mistake(s string, at int, says string) error {
	return fmt.Errorf("column %d: %s", 1+utf8.RuneCountInString(s[:at]), says)
}

// IsText tells whether t has no placeholder, so that it is the same for all that is posted.
func (t *Template) IsText() bool { return t.parts == nil }

// placeholder reads what stands between ${ and }.
func placeholder(s string) (part, error) {
	kind, name, _ := strings.Cut(s, ".")
	p := part{kind: kind, name: name}
	switch kind {
	case "header":
		if !isToken(name) {
			return part{}, fmt.Errorf("${%s}: %q is not the name of a header: write one, for example ${header.X-GitHub-Event}", s, name)
		}
		p.name = textproto.CanonicalMIMEHeaderKey(name)
		if secretHeaders[p.name] {
			return part{}, fmt.Errorf("${%s}: this header holds a secret, which events must not carry: use another", s)
		}
	case "query":
		if name == "" {
			return part{}, fmt.Errorf("${%s}: the name of a query parameter is missing: write one, for example ${query.name}", s)
		}
	case "data":
		p.path = strings.Split(name, ".")
		for _, step := range p.path {
			if step == "" {
				return part{}, fmt.Errorf("${%s}: the path into the data has an empty name: write one, for example ${data.repository.full_name}", s)
			}
		}
	default:
		return part{}, fmt.Errorf("${%s} is not known: use ${header.NAME}, ${query.NAME} or ${data.PATH}", s)
	}
	return p, nil
}

var secretHeaders = map[string]bool{"Authorization": true, "Proxy-Authorization": true, "Cookie": true}

// isToken tells whether s can be the name of a header (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// illegal returns where s holds what a string of a CloudEvent must not, and -1 if it does not.
func illegal(s string) int {
	for at, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[at:]); size < 2 {
				return at
			}
		}
		if unicode.IsControl(r) || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return at
		}
	}
	return -1
}

// Expand returns t with what p has in place of the placeholders; whole is false if p had nothing for one of them. An error, which wraps
// ErrMalformed, says that the value is none that an attribute may have.
func (t *Template) Expand(p *Posted) (value string, whole bool, err error) {
	if t.IsText() {
		return t.text, true, nil
	}
	whole = true
	var out strings.Builder
	for _, part := range t.parts {
		found := part.text
		if part.kind != "" {
			found = p.find(part)
			whole = whole && found != ""
		}
		if out.Len()+len(found) > maxTemplate {
			return "", false, malformed("%s is longer than the %d bytes that an attribute of a template may have", t.text, maxTemplate)
		}
		out.WriteString(found)
	}
	if illegal(out.String()) >= 0 {
		return "", false, malformed("%s has a character that no attribute may have: printable ones, in UTF-8, are allowed", t.text)
	}
	return out.String(), whole, nil
}

func (p *Posted) find(at part) string {
	switch at.kind {
	case "header":
		return p.Header(at.name)
	case "query":
		return p.Query(at.name)
	}
	if !p.read {
		p.data, p.read = ReadJSON(p.Body), true
	}
	if value := Field(p.data, at.path); value != nil {
		return fmt.Sprint(value)
	}
	return ""
}
