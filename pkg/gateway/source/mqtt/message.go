package mqtt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// What is beyond that is counted, not kept.
	maxProperties = 64
	maxNameSize   = 64
)

// event returns the event of a message. A CloudEvent, in either mode of the MQTT protocol binding, is kept as it is; all else is
// wrapped, also what only claims to be one: a message that cannot be read would come again for ever.
func (s *Source) event(m *message) *event.Event {
	e, err := cloudEvent(m)
	if e == nil {
		e = s.wrap(m, err)
	}
	if s.o.Source.MarkKind {
		e.SetExtension(source.KindExtension, s.o.Source.Kind)
	}
	return e
}

// cloudEvent returns nil when m is not a CloudEvent, with an error if it claims to be one.
func cloudEvent(m *message) (*event.Event, error) {
	mediaType := source.MediaType(m.contentType)
	switch {
	case mediaType == event.MediaTypeStructured:
		return event.ParseStructured(m.payload)
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return nil, fmt.Errorf("format %s is not supported", mediaType)
	}
	var b event.Binary
	var problem error
	binary := false
	for _, p := range m.properties {
		if p.name != source.PlainName(p.name) || p.name == "" || p.name == "data" {
			continue // no attribute: a property that somebody added
		}
		binary = binary || p.name == "specversion"
		if !source.IsText(p.value) {
			problem = fmt.Errorf("property %s is not text", p.name)
		} else if err := b.Set(p.name, p.value); err != nil {
			problem = err
		}
	}
	switch {
	case binary && problem != nil:
		return nil, problem
	case binary:
		return b.Event(m.contentType, m.payload)
	case m.contentType == "":
		return unmarked(m.payload), nil
	}
	return nil, nil
}

var specVersion = []byte(`"specversion"`)

// unmarked reads what a publisher of version 3.1.1, which has no content types, sends in structured mode. It is nil for all else.
func unmarked(payload []byte) *event.Event {
	var claim struct {
		SpecVersion string `json:"specversion"`
	}
	if !bytes.Contains(payload, specVersion) || json.Unmarshal(payload, &claim) != nil || claim.SpecVersion == "" {
		return nil
	}
	e, _ := event.ParseStructured(payload)
	return e
}

// wrap returns an event that holds the message. Its subject is the topic. A message has no position, so that its id is random. Extensions:
//
//   - mqtttopic, the topic; or mqtttopicbase64, if it cannot be an attribute;
//   - mqttretained, true: the broker had kept the message for those who subscribe later;
//   - mqttresponsetopic, and mqttcorrelationdata in base64;
//   - mqttcontenttype, if it cannot be the event's;
//   - mqttproperty followed by a user property's name in lower case without what is not a letter or a digit, with 2, 3 and so on after that for
//     properties whose names come out equal, in their order;
//   - mqttomitted, how many of those were left out because they are too long or too many or not text;
//   - mqttmalformed, why it is not the CloudEvent that it claims to be.
//
// They are strings, since that is what buses make of them.
func (s *Source) wrap(m *message, malformed error) *event.Event {
	x := extensions{all: map[string]any{}}
	c := &cloudevents.EventContextV1{ID: uuid.NewString(), Type: plan.EventType(s.o.Source.Kind), Source: s.source, Extensions: x.all}
	if source.IsText(m.topic) {
		c.Subject = &m.topic
		x.all["mqtttopic"] = m.topic
	} else {
		x.all["mqtttopicbase64"] = base64.StdEncoding.EncodeToString([]byte(m.topic))
	}
	if m.retain {
		x.all["mqttretained"] = "true"
	}
	if m.responseTopic != "" {
		x.set("mqttresponsetopic", m.responseTopic)
	}
	if m.correlationData != nil {
		x.set("mqttcorrelationdata", base64.StdEncoding.EncodeToString(m.correlationData))
	}
	contentType := m.contentType
	if contentType != "" && !source.IsDataContentType(contentType) {
		x.set("mqttcontenttype", contentType)
		contentType = ""
	}
	for _, p := range m.properties {
		x.property(p)
	}
	if x.omitted > 0 {
		x.all["mqttomitted"] = strconv.Itoa(x.omitted)
	}
	if malformed != nil {
		x.all["mqttmalformed"] = source.Sentence(malformed)
	}
	e := &event.Event{Context: c}
	if contentType == "" {
		contentType = source.GuessContentType(m.payload)
	}
	c.DataContentType = &contentType
	if len(m.payload) > 0 {
		e.DataEncoded = m.payload
	}
	return e
}

// extensions collects what a message has besides its payload.
type extensions struct {
	all        map[string]any
	properties int
	omitted    int
}

func (x *extensions) set(name, value string) {
	if len(value) > source.MaxValueSize || !source.IsText(value) {
		x.omitted++
		return
	}
	x.all[name] = value
}

func (x *extensions) property(p property) {
	if x.properties >= maxProperties || len(p.name) > maxNameSize {
		x.omitted++
		return
	}
	x.properties++
	name := "mqttproperty" + source.PlainName(p.name)
	free := name
	for i := 2; x.all[free] != nil; i++ {
		free = name + strconv.Itoa(i)
	}
	x.set(free, p.value)
}
