package standalone

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// text returns data as UTF-8 without a byte order mark and with \n at the end of each line, whatever editor and system wrote it.
func text(data []byte) ([]byte, error) {
	for mark, order := range map[string]binary.ByteOrder{"\xff\xfe": binary.LittleEndian, "\xfe\xff": binary.BigEndian} {
		rest, ok := bytes.CutPrefix(data, []byte(mark))
		if !ok {
			continue
		}
		if len(rest)%2 != 0 {
			return nil, errors.New("begins as UTF-16 and ends within a character: save it as UTF-8")
		}
		units := make([]uint16, len(rest)/2)
		for i := range units {
			units[i] = order.Uint16(rest[2*i:])
		}
		data = []byte(string(utf16.Decode(units)))
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("is not text in UTF-8")
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.IndexByte(data, '\r') >= 0 {
		data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
		data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	}
	return data, nil
}

// decode reads the one document of a chunk.
func decode(data []byte) (*yaml.Node, error) {
	doc := &yaml.Node{}
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(doc); err != nil {
		return nil, err
	}
	// What follows would be left out silently.
	next := yaml.Node{}
	if err := d.Decode(&next); !errors.Is(err, io.EOF) {
		return nil, errSecondDocument
	}
	return doc, nil
}

var (
	errSecondDocument = errors.New("yaml: another document follows: write --- in a line of its own between them")
	yamlLine          = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	// startsWith finds a value that begins with a character that means something else in YAML.
	startsWith = regexp.MustCompile("(?:[:\\-,\\[{] *|^ *)([@`*&%!])[^\\s\"']*")
)

// maxSearch bounds the text in which the line of a mistake is searched for: each step reads it again.
const maxSearch = 256 << 10

// syntaxProblem says why data is not YAML. Its line counts from one, within data.
func syntaxProblem(data []byte, err error) Problem {
	message := err.Error()
	line := 0
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1]) // none is zero
		message = message[len(m[0]):]
	}
	lines := slices.Collect(bytes.Lines(data))
	switch {
	case len(data) > maxSearch:
	case line == 0 || strings.HasSuffix(message, "expected key") || strings.HasSuffix(message, "expected '-' indicator"):
		// The library knows no line, or only where the mapping or list began.
		line = 1 + sort.Search(len(lines), func(n int) bool {
			_, prefixErr := decode(bytes.Join(lines[:n+1], nil))
			return prefixErr != nil && strings.HasSuffix(prefixErr.Error(), message)
		})
	case isParserError(message):
		line++ // the library counts these from zero
	}
	line = max(1, min(line, len(lines)))
	if message != errSecondDocument.Error()[len("yaml: "):] {
		message = "not valid YAML: " + message
	}
	return Problem{Line: line, Message: message + hint(message, string(lines[line-1]))}
}

func isParserError(message string) bool {
	for _, end := range []string{"node content", "',' or ']'", "',' or '}'", "<document start>", "tag handle"} {
		if strings.HasSuffix(message, end) {
			return true
		}
	}
	return false
}

// hint is what people mostly did when they see the message, judged by the line.
func hint(message, line string) string {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	special := startsWith.FindStringSubmatch(line)
	switch {
	case strings.Contains(indent, "\t"):
		return " (a tab: YAML is indented with spaces)"
	case special != nil && (strings.HasSuffix(message, "any token") || strings.HasSuffix(message, "numeric character") || strings.HasSuffix(message, "referenced")):
		return " (text that begins with " + special[1] + " must stand in quotes)"
	case strings.HasSuffix(message, "expected key"), strings.HasSuffix(message, "expected '-' indicator"):
		return " (is the line indented like those that it belongs to?)"
	case strings.HasSuffix(message, "mapping values are not allowed in this context"):
		return ` (wrong indentation, or text with ": " in it that must stand in quotes)`
	case strings.HasSuffix(message, "'}'"), strings.HasSuffix(message, "']'"):
		return " (what opens here is not closed, or a comma is missing)"
	}
	return ""
}
