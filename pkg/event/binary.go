package event

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// ErrMalformed is wrapped by every error that says why bytes are not a CloudEvent.
var ErrMalformed = errors.New("not a valid CloudEvent")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// maxExtensions bounds what one event may carry: headers are limited on every transport, JSON is not.
const maxExtensions = 128

// The extension attributes that the data plane adds to an event on its way: which kind of source it is of, and why it is a dead letter. They
// do not count, so that what was taken can be delivered and dead-lettered, and read again wherever that leads.
const (
	KindExtension        = "openfunctionkind"
	ErrorDestExtension   = "knativeerrordest"
	ErrorCodeExtension   = "knativeerrorcode"
	ErrorDataExtension   = "knativeerrordata"
	DataOmittedExtension = "openfunctiondataomitted"
)

var added = [...]string{KindExtension, ErrorDestExtension, ErrorCodeExtension, ErrorDataExtension, DataOmittedExtension}

// Binary collects the attributes of an event in binary mode, where each travels in a header of its own.
// The zero value is ready; it is for one event and one goroutine.
type Binary struct {
	specVersion, id, source, typ, subject, time, dataSchema, schemaURL, encoding string
	// seen tells an attribute that is set but empty from one that is not there.
	seen       uint8
	extensions map[string]any
}

const (
	seenTime = 1 << iota
	seenDataSchema
	seenSchemaURL
	seenEncoding
)

// Set keeps the attribute name, without the transport's prefix and in lower case.
func (b *Binary) Set(name, value string) error {
	if !utf8.ValidString(value) {
		return malformed("attribute %s: want UTF-8", name)
	}
	switch name {
	case "specversion":
		b.specVersion = value
	case "id":
		b.id = value
	case "source":
		b.source = value
	case "type":
		b.typ = value
	case "subject":
		b.subject = value
	case "time":
		b.time, b.seen = value, b.seen|seenTime
	case "dataschema":
		b.dataSchema, b.seen = value, b.seen|seenDataSchema
	case "schemaurl": // the name that dataschema had in version 0.3
		b.schemaURL, b.seen = value, b.seen|seenSchemaURL
	case "datacontenttype":
		return nil // the transport's content type is the attribute in binary mode
	case "datacontentencoding":
		b.encoding, b.seen = value, b.seen|seenEncoding
	default:
		return b.extension(name, value)
	}
	return nil
}

func (b *Binary) extension(name, value string) error {
	if isReserved(name) {
		return malformed("attribute name %q: is reserved for the data, which is the body", name)
	}
	if !validName(name) {
		return malformed("attribute name %q: only lower-case letters and digits are allowed", name)
	}
	if len(b.extensions) >= maxExtensions && b.full(name) {
		return malformed("more than %d extension attributes", maxExtensions)
	}
	if b.extensions == nil {
		b.extensions = make(map[string]any, 4)
	}
	b.extensions[name] = value
	return nil
}

// full tells whether there is no room for the extension name, when there are many.
func (b *Binary) full(name string) bool {
	if _, has := b.extensions[name]; has || slices.Contains(added[:], name) {
		return false
	}
	n := len(b.extensions)
	for _, name := range added {
		if _, has := b.extensions[name]; has {
			n--
		}
	}
	return n >= maxExtensions
}

// isReserved tells whether the JSON format has the data under this name.
func isReserved(name string) bool { return name == "data" || name == "data_base64" }

func validName(name string) bool {
	if name == "" || isReserved(name) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Event returns the event of the attributes that were set. An empty contentType means that there is none.
// The event keeps data; the caller must not change it afterwards. Nothing but the time's zone changes: it becomes UTC.
func (b *Binary) Event(contentType string, data []byte) (*Event, error) {
	if err := b.check(contentType); err != nil {
		return nil, err
	}
	source, err := exactly(b.source)
	if err != nil {
		return nil, malformed("attribute source %q: want a URI reference", b.source)
	}
	e := &Event{}
	if len(data) > 0 {
		e.DataEncoded = data
	}
	c := &cloudevents.EventContextV1{ID: b.id, Type: b.typ, Source: types.URIRef{URL: source}}
	if contentType != "" {
		c.DataContentType = &contentType
	}
	if b.subject != "" {
		c.Subject = &b.subject
	}
	if b.seen&seenTime != 0 {
		t, err := time.Parse(time.RFC3339Nano, b.time)
		if y := t.UTC().Year(); err != nil || y < 0 || y > 9999 {
			return nil, malformed("attribute time %q: want RFC 3339, for example 2006-01-02T15:04:05Z", b.time)
		}
		c.Time = &types.Timestamp{Time: t}
	}
	if b.specVersion == cloudevents.CloudEventsVersionV03 {
		return b.asV03(e, c)
	}
	if b.seen&seenDataSchema != 0 {
		u, err := exactly(b.dataSchema)
		if err != nil || !u.IsAbs() {
			return nil, malformed("attribute dataschema %q: want an absolute URI", b.dataSchema)
		}
		c.DataSchema = &types.URI{URL: u}
	}
	// What only version 0.3 gives a meaning is an extension like any other.
	if err := b.leftOver(seenSchemaURL, "schemaurl", b.schemaURL); err != nil {
		return nil, err
	}
	if err := b.leftOver(seenEncoding, "datacontentencoding", b.encoding); err != nil {
		return nil, err
	}
	c.Extensions = b.extensions
	e.Context = c
	return e, nil
}

func (b *Binary) asV03(e *Event, v1 *cloudevents.EventContextV1) (*Event, error) {
	c := &cloudevents.EventContextV03{
		ID: v1.ID, Type: v1.Type, Source: v1.Source, Subject: v1.Subject, Time: v1.Time, DataContentType: v1.DataContentType,
	}
	if b.seen&seenSchemaURL != 0 {
		u, err := exactly(b.schemaURL)
		if err != nil {
			return nil, malformed("attribute schemaurl %q: want a URI reference", b.schemaURL)
		}
		c.SchemaURL = &types.URIRef{URL: u}
	}
	if err := b.leftOver(seenDataSchema, "dataschema", b.dataSchema); err != nil {
		return nil, err
	}
	c.Extensions = b.extensions
	e.Context = c
	return e, nil
}

func (b *Binary) leftOver(seen uint8, name, value string) error {
	if b.seen&seen == 0 {
		return nil
	}
	return b.extension(name, value)
}

// exactly parses a URI reference into a URL whose String is raw, byte for byte: url.URL alone would re-encode
// some, and source together with id is what duplicates are recognised by.
func exactly(raw string) (url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return url.URL{}, err
	}
	if u.String() == raw {
		return *u, nil
	}
	if n := len(u.Scheme); n > 0 {
		return url.URL{Scheme: raw[:n], Opaque: raw[n+1:]}, nil
	}
	return url.URL{Opaque: raw}, nil
}

func (b *Binary) check(contentType string) error {
	switch b.specVersion {
	case cloudevents.CloudEventsVersionV1, cloudevents.CloudEventsVersionV03:
	case "":
		return malformed("attribute specversion is missing")
	default:
		return malformed("attribute specversion %q: want 1.0 or 0.3", b.specVersion)
	}
	for _, a := range [...]struct{ name, value string }{{"id", b.id}, {"source", b.source}, {"type", b.typ}} {
		if strings.TrimSpace(a.value) == "" {
			return malformed("attribute %s is missing or empty", a.name)
		}
	}
	if contentType == "" || contentType == "application/json" || IsContentType(contentType) {
		return nil
	}
	return malformed("content type %q: want a media type, for example application/json", contentType)
}

// IsContentType tells whether data can have this content type: a media type in printable ASCII.
func IsContentType(s string) bool {
	_, _, err := mime.ParseMediaType(s)
	return (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) && printable(s)
}

// printable tells whether s can be the value of a header as it is: a content type is never escaped.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// EachAttribute calls set for every attribute of e but the content type, core attributes first and extensions by name.
func EachAttribute(e *Event, set func(name, value string)) {
	eachCore(e, set)
	extensions := e.Extensions()
	for _, name := range sortedNames(extensions) {
		if value, err := types.Format(extensions[name]); err == nil {
			set(name, value)
		}
	}
}

func eachCore(e *Event, set func(name, value string)) {
	set("specversion", e.SpecVersion())
	set("id", e.ID())
	set("source", e.Source())
	set("type", e.Type())
	if s := e.Subject(); s != "" {
		set("subject", s)
	}
	if t := timeOf(e); t != nil {
		set("time", types.FormatTime(t.Time))
	}
	if s := e.DataSchema(); s != "" {
		name := "dataschema"
		if e.SpecVersion() == cloudevents.CloudEventsVersionV03 {
			name = "schemaurl"
		}
		set(name, s)
	}
}

// timeOf returns nil when e has no time; Event.Time cannot tell that from the year 1.
func timeOf(e *Event) *types.Timestamp {
	switch c := e.Context.(type) {
	case *cloudevents.EventContextV1:
		return c.Time
	case *cloudevents.EventContextV03:
		return c.Time
	}
	return nil
}

func sortedNames(extensions map[string]any) []string {
	if len(extensions) == 0 {
		return nil
	}
	names := make([]string, 0, len(extensions))
	for name := range extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
