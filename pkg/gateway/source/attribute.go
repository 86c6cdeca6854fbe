package source

import (
	"bytes"
	"encoding/json"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openfunction/events/pkg/event"
)

// Attributes become headers on most transports, and those are limited.
const (
	// MaxValueSize is the most bytes of an attribute that a source makes of what a record or message says.
	MaxValueSize = 8 << 10
	maxSentence  = 256
)

// IsText tells whether value may be an attribute: UTF-8 without control characters.
func IsText(value string) bool {
	return utf8.ValidString(value) && !strings.ContainsFunc(value, unicode.IsControl)
}

// PlainName returns name as an attribute may be called: in lower case, without what is not a letter or a digit.
func PlainName(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, name)
}

// Sentence is an error as an attribute may hold it.
func Sentence(err error) string {
	text := err.Error()
	text = strings.ToValidUTF8(text[:min(len(text), maxSentence)], "")
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, text)
}

// MediaType is contentType without its parameters, empty if it cannot be read.
func MediaType(contentType string) string {
	mediaType, _, _ := mime.ParseMediaType(contentType)
	return mediaType
}

// IsDataContentType tells whether contentType can go on as that of the data of an event. A CloudEvents one cannot: in binary mode a receiver would
// take the data for an event.
func IsDataContentType(contentType string) bool {
	mediaType := MediaType(contentType)
	return event.IsContentType(contentType) && strings.Contains(mediaType, "/") && !strings.HasPrefix(mediaType, "application/cloudevents")
}

// GuessContentType is the content type of data that comes without one.
func GuessContentType(data []byte) string {
	switch {
	case !utf8.Valid(data):
		return "application/octet-stream"
	case json.Valid(data):
		return "application/json"
	case bytes.ContainsFunc(data, func(c rune) bool { return unicode.IsControl(c) && !unicode.IsSpace(c) }):
		return "application/octet-stream"
	}
	return "text/plain; charset=utf-8"
}
