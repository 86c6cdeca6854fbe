package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"mime"
	"strconv"
	"strings"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// Structured returns e in the CloudEvents JSON format. The data bytes survive whatever they are:
// JSON stays JSON and text stays text where reading them back gives the same bytes, all else travels as base64.
func Structured(e *Event) ([]byte, error) {
	if e.Context == nil {
		return nil, malformed("it has no attributes")
	}
	data, contentType := e.Data(), e.DataContentType()
	isJSON := isJSON(contentType)
	out := make([]byte, 0, 512+len(data)*3/2)
	member := func(name, value string) {
		out = appendString(appendName(out, name), value)
	}
	eachCore(e, member)
	if contentType != "" {
		member("datacontenttype", contentType)
	}
	extensions := e.Extensions()
	for _, name := range sortedNames(extensions) {
		switch value := extensions[name].(type) {
		case bool:
			out = strconv.AppendBool(appendName(out, name), value)
		case int32:
			out = strconv.AppendInt(appendName(out, name), int64(value), 10)
		default:
			text, err := types.Format(value)
			if err != nil {
				return nil, malformed("attribute %s: %v", name, err)
			}
			member(name, text)
		}
	}
	switch {
	case len(data) == 0:
	case isJSON && readsBackJSON(contentType, data):
		out = append(appendName(out, "data"), data...)
	case !isJSON && isText(contentType) && utf8.Valid(data):
		out = appendString(appendName(out, "data"), string(data))
	case e.SpecVersion() == cloudevents.CloudEventsVersionV03:
		// The 0.3 format says how the data is encoded in an attribute of its own.
		member("datacontentencoding", cloudevents.Base64)
		out = appendBase64(appendName(out, "data"), data)
	default:
		out = appendBase64(appendName(out, "data_base64"), data)
	}
	return append(out, '}'), nil
}

func appendName(out []byte, name string) []byte {
	separator := byte(',')
	if len(out) == 0 {
		separator = '{'
	}
	return append(appendString(append(out, separator), name), ':')
}

// appendString appends s as a JSON string, as short as JSON allows: what a person reads stays readable.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, '\\', 'n')
		case r < ' ':
			out = append(out, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		case r < utf8.RuneSelf:
			out = append(out, byte(r))
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	return append(out, '"')
}

func appendBase64(out, data []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(out, '"'), data), '"')
}

// maxNesting keeps the event around its data, and a batch around the event, below the 10000 levels that encoding/json reads.
const maxNesting = 9000

func readsBackJSON(contentType string, data []byte) bool {
	if len(bytes.TrimSpace(data)) != len(data) || !utf8.Valid(data) || !json.Valid(data) {
		return false
	}
	// Some readers know only application/json and text/json to be JSON, and would take the quotes off a string of another type.
	if data[0] == '"' && !strings.HasPrefix(contentType, "application/json") && contentType != "" {
		return false
	}
	return bytes.Count(data, []byte{'['})+bytes.Count(data, []byte{'{'}) < maxNesting || depth(data) < maxNesting
}

// depth returns how deep valid JSON is nested.
func depth(data []byte) int {
	deepest, level, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			level++
			deepest = max(deepest, level)
		case c == ']' || c == '}':
			level--
		}
	}
	return deepest
}

// isJSON tells whether data of this content type is JSON; data without a content type is, as the JSON format says.
func isJSON(contentType string) bool {
	if contentType == "" || contentType == "application/json" {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	return mediaType == "application/json" || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json")
}

func isText(contentType string) bool {
	return strings.HasPrefix(contentType, "text/") || strings.HasPrefix(contentType, "application/xml")
}

// ParseStructured reads one event in the CloudEvents JSON format. Errors wrap ErrMalformed.
func ParseStructured(body []byte) (*Event, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, malformed("body is not a JSON object: %v", err)
	}
	return fromMembers(members)
}

// ParseBatch reads events in the CloudEvents JSON batch format; an empty batch is no events. Errors wrap ErrMalformed.
func ParseBatch(body []byte) ([]*Event, error) {
	var batch []map[string]json.RawMessage
	if b := bytes.TrimSpace(body); len(b) > 0 && b[0] != '[' { // null is an empty slice to encoding/json
		return nil, malformed("body is not a JSON array of objects")
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, malformed("body is not a JSON array of objects: %v", err)
	}
	events := make([]*Event, 0, len(batch))
	for i, members := range batch {
		e, err := fromMembers(members)
		if err != nil {
			return nil, malformed("event %d of the batch: %s", i, strings.TrimPrefix(err.Error(), ErrMalformed.Error()+": "))
		}
		events = append(events, e)
	}
	return events, nil
}

func fromMembers(members map[string]json.RawMessage) (*Event, error) {
	var b Binary
	var contentType, encoding string
	for name, raw := range members {
		if name == "data" || name == "data_base64" || string(raw) == "null" {
			continue
		}
		value, err := scalar(name, raw)
		if err != nil {
			return nil, err
		}
		s, isString := value.(string)
		switch {
		case name == "datacontenttype" && isString:
			contentType = s
		case name == "datacontentencoding" && isString:
			encoding = s
			err = b.Set(name, s)
		case core[name] && !isString:
			return nil, malformed("attribute %s: want a string", name)
		case isString:
			err = b.Set(name, s)
		default:
			if err = b.Set(name, ""); err == nil {
				b.extensions[name] = value
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if b.specVersion != cloudevents.CloudEventsVersionV03 {
		encoding = "" // only 0.3 gives it a meaning
	}
	data, err := memberData(members, contentType, encoding)
	if err != nil {
		return nil, err
	}
	return b.Event(contentType, data)
}

var core = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true, "subject": true, "time": true,
	"dataschema": true, "schemaurl": true, "datacontenttype": true, "datacontentencoding": true,
}

// scalar reads an attribute value: a string, a boolean or an integer of 32 bits, the types that the JSON format has.
func scalar(name string, raw json.RawMessage) (any, error) {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, malformed("attribute %s: %v", name, err)
	}
	switch v := value.(type) {
	case string, bool:
		return v, nil
	case float64:
		if n := int32(v); float64(n) == v {
			return n, nil
		}
		return nil, malformed("attribute %s: want an integer of 32 bits", name)
	default:
		return nil, malformed("attribute %s: want a string, an integer or a boolean", name)
	}
}

func memberData(members map[string]json.RawMessage, contentType, encoding string) ([]byte, error) {
	data, hasData := members["data"]
	encoded, hasEncoded := members["data_base64"]
	if encoding != "" && !strings.EqualFold(encoding, cloudevents.Base64) {
		return nil, malformed("attribute datacontentencoding %q: want base64", encoding)
	}
	switch {
	case hasData && hasEncoded:
		return nil, malformed("both data and data_base64 are set: want one")
	case hasEncoded:
		return fromBase64("data_base64", encoded)
	case !hasData || string(data) == "null" && !isJSON(contentType):
		return nil, nil
	case encoding != "":
		return fromBase64("data", data)
	case isJSON(contentType):
		return data, nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return data, nil // a JSON value under another content type: its bytes are the data
	}
	return []byte(text), nil
}

func fromBase64(name string, raw json.RawMessage) ([]byte, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, malformed("%s: want a string", name)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, malformed("%s: %v", name, err)
	}
	return data, nil
}
