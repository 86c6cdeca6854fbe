package source_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/gateway/source"
)

func TestGuessContentType(t *testing.T) {
	for data, want := range map[string]string{
		"":                     "text/plain; charset=utf-8",
		"Grüße\n\tWelt":        "text/plain; charset=utf-8",
		` {"a": [1, null]} `:   "application/json",
		"12":                   "application/json",
		`{"a":`:                "text/plain; charset=utf-8",
		"a\x00b":               "application/octet-stream",
		"\xff\xfe":             "application/octet-stream",
		"\"\xff\"":             "application/octet-stream",
		"\u0085 is a space":    "text/plain; charset=utf-8",
		"\u009f is a control":  "application/octet-stream",
		"\x1b[31mred\x1b[0m\n": "application/octet-stream",
	} {
		if got := source.GuessContentType([]byte(data)); got != want {
			t.Errorf("GuessContentType(%q) = %s, want %s", data, got, want)
		}
	}
}

func TestIsDataContentType(t *testing.T) {
	for contentType, want := range map[string]bool{
		"text/plain; charset=utf-8":         true,
		"application/cloudevents+json":      false,
		"Application/CloudEvents-batch":     false,
		"":                                  false,
		"json":                              false,
		"text/plain\r\nx-evil: 1":           false,
		"application/vnd.example+json; v=1": true,
	} {
		if got := source.IsDataContentType(contentType); got != want {
			t.Errorf("IsDataContentType(%q) = %t, want %t", contentType, got, want)
		}
	}
}

func TestIsText(t *testing.T) {
	for value, want := range map[string]bool{"": true, "größe 1": true, "a\nb": false, "\x7f": false, "\xff": false} {
		if got := source.IsText(value); got != want {
			t.Errorf("IsText(%q) = %t, want %t", value, got, want)
		}
	}
}

func TestPlainName(t *testing.T) {
	if got, want := source.PlainName("X-Größe_1\n"), "xgre1"; got != want {
		t.Errorf("PlainName = %q, want %q", got, want)
	}
}

func TestSentence(t *testing.T) {
	long := strings.Repeat("x", 255) + "ü and more" // the cut is in the middle of a letter
	for text, want := range map[string]string{"a\nb\x00c\xff": "abc", long: strings.Repeat("x", 255)} {
		if got := source.Sentence(errors.New(text)); got != want {
			t.Errorf("Sentence(%q) = %q, want %q", text, got, want)
		}
	}
}
