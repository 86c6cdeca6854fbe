package redis

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

const contentTypeJSON = "application/json"

// The fields of a stream's entry that mean something.
const (
	fieldData     = "data"
	fieldEvent    = "event"
	fieldMetadata = "metadata"
)

// Ids of entries are believed to be times in milliseconds if they are from the years 2001 to 9999. Producers may choose others.
const (
	firstTime = 1_000_000_000_000
	lastTime  = 253_402_300_799_999
)

// entry returns the event of a stream's entry:
//
//   - the CloudEvent that it holds, as it is, in the JSON format: in its only field, event or data. A field metadata beside data, as Dapr
//     adds it, is left out;
//   - otherwise, if data is its only field, an event with the bytes of that;
//   - otherwise an event with a JSON object of the fields. A value that is not UTF-8 is an object {"base64": "..."}, a name that is not is
//     "base64:" and its base64. Of fields with one name the last one counts.
//
// What is not a CloudEvent has as its id the stream's name, a slash and the entry's id, so that a repeat is recognised; the time that is
// in the entry's id; and the extensions redisstream and redisentry. The extension redismalformed says why what claims to be a CloudEvent,
// by its specversion, is not one.
func (s *Source) entry(m redis.XMessage) *event.Event {
	data, contentType, isData := payload(m.Values)
	c := s.context(s.redis.Stream + "/" + m.ID)
	extend(c, "redisstream", s.redis.Stream)
	extend(c, "redisentry", m.ID)
	if t, _ := parseID(m.ID); t >= firstTime && t <= lastTime {
		c.Time = &types.Timestamp{Time: time.UnixMilli(int64(t)).UTC()}
	}
	if !isData {
		return s.mark(wrapped(c, data, contentType))
	}
	return s.event(c, data)
}

// payload returns what an entry has to say: the bytes of one field, or all its fields as JSON.
func payload(fields map[string]any) (data []byte, contentType string, isData bool) {
	text, isData := fields[fieldData].(string)
	_, hasMetadata := fields[fieldMetadata]
	switch {
	case isData && len(fields) == 1:
		return []byte(text), "", true
	case isData && len(fields) == 2 && hasMetadata && claims([]byte(text)):
		return []byte(text), "", true
	}
	if text, ok := fields[fieldEvent].(string); ok && len(fields) == 1 && claims([]byte(text)) {
		return []byte(text), "", true
	}
	return object(fields), contentTypeJSON, false
}

func object(fields map[string]any) []byte {
	o := make(map[string]any, len(fields))
	for name, value := range fields {
		if !utf8.ValidString(name) {
			name = "base64:" + base64.StdEncoding.EncodeToString([]byte(name))
		}
		if text, ok := value.(string); ok && !utf8.ValidString(text) {
			value = map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(text))}
		}
		o[name] = value
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(o) // strings and maps of strings always encode
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// element returns the event of an element of a list: the CloudEvent that it is in the JSON format, as it is, or one with its bytes and the
// extension redislist. Its id is random, for an element has none; one that is handed on again by another process has another.
func (s *Source) element(value string) *event.Event {
	c := s.context(rand.Text())
	extend(c, "redislist", s.redis.List)
	return s.event(c, []byte(value))
}

// message returns the event of a message, like element; its subject and the extension redischannel are the channel it was published to.
func (s *Source) message(m *redis.Message) *event.Event {
	c := s.context(rand.Text())
	extend(c, "redischannel", m.Channel)
	if usable(m.Channel) && m.Channel != "" {
		c.Subject = &m.Channel
	}
	return s.event(c, []byte(m.Payload))
}

func (s *Source) context(id string) *cloudevents.EventContextV1 {
	return &cloudevents.EventContextV1{ID: id, Type: plan.EventType(s.o.Source.Kind), Source: s.source, Extensions: map[string]any{}}
}

// event returns the CloudEvent that data is, or else one with c and data.
func (s *Source) event(c *cloudevents.EventContextV1, data []byte) *event.Event {
	if claims(data) {
		e, err := event.ParseStructured(data)
		if err == nil {
			return s.mark(e)
		}
		c.Extensions["redismalformed"] = source.Sentence(err)
	}
	return s.mark(wrapped(c, data, source.GuessContentType(data)))
}

func (s *Source) mark(e *event.Event) *event.Event {
	if s.o.Source.MarkKind {
		e.SetExtension(source.KindExtension, s.o.Source.Kind)
	}
	return e
}

func wrapped(c *cloudevents.EventContextV1, data []byte, contentType string) *event.Event {
	c.DataContentType = &contentType
	e := &event.Event{Context: c}
	if len(data) > 0 {
		e.DataEncoded = data
	}
	return e
}

// claims tells whether data wants to be a CloudEvent: it is a JSON object with a specversion.
func claims(data []byte) bool {
	var e struct {
		SpecVersion *string `json:"specversion"`
	}
	return bytes.Contains(data, []byte(`"specversion"`)) && json.Unmarshal(data, &e) == nil && e.SpecVersion != nil
}

func extend(c *cloudevents.EventContextV1, name, value string) {
	if usable(value) {
		c.Extensions[name] = value
	}
}

// usable tells whether value may be an attribute. A longer one is left out.
func usable(value string) bool { return len(value) <= source.MaxValueSize && source.IsText(value) }
