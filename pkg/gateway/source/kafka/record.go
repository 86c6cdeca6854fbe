package kafka

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

const (
	attributePrefix   = "ce_"
	contentTypeHeader = "content-type"

	// What is beyond that is counted, not kept.
	maxHeaders  = 64
	maxNameSize = 64
)

// event returns the event of a record. A CloudEvent, in either mode of the Kafka protocol binding, is kept as it is; all else is
// wrapped, also what only claims to be one: a record that cannot be read would stop its partition for ever.
func (s *Source) event(m *sarama.ConsumerMessage, topicID string) *event.Event {
	e, err := cloudEvent(m)
	if e == nil {
		e = s.wrap(m, topicID, err)
	}
	if s.o.Source.MarkKind {
		e.SetExtension(source.KindExtension, s.o.Source.Kind)
	}
	return e
}

// cloudEvent returns nil when m is not a CloudEvent, with an error if it claims to be one.
func cloudEvent(m *sarama.ConsumerMessage) (*event.Event, error) {
	var b event.Binary
	var problem error
	contentType, binary := "", false
	for _, h := range m.Headers {
		name, value := strings.ToLower(string(h.Key)), string(h.Value)
		if name == contentTypeHeader {
			contentType = value
		}
		attribute, ok := strings.CutPrefix(name, attributePrefix)
		if !ok {
			continue
		}
		binary = binary || attribute == "specversion"
		if !source.IsText(string(h.Value)) {
			problem = fmt.Errorf("header %s is not text", name)
		} else if err := b.Set(attribute, value); err != nil {
			problem = err
		}
	}
	switch mediaType := source.MediaType(contentType); {
	case mediaType == event.MediaTypeStructured:
		return event.ParseStructured(m.Value)
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return nil, fmt.Errorf("format %s is not supported", mediaType)
	case !binary:
		return nil, nil
	case problem != nil:
		return nil, problem
	}
	return b.Event(contentType, m.Value)
}

// wrap returns an event that holds the record. Its id is the record's position in the topic that has this id, so that a repeat is recognised,
// and what comes at that position when the topic is removed and made again is none. Extensions:
//
//   - kafkatopic, kafkapartition and kafkaoffset, and kafkatimestamp, which is the event's time too;
//   - partitionkey, the key, if it is text; otherwise kafkakeybase64;
//   - kafkaheader followed by a header's name in lower case without what is not a letter or a digit, with base64 at its end if the
//     value is not text, and with 2, 3 and so on after that for headers whose names come out equal, in their order;
//   - kafkaomitted, how many of those were left out because they are too long or too many;
//   - kafkamalformed, why it is not the CloudEvent that it claims to be.
//
// They are strings, since that is what buses make of them.
func (s *Source) wrap(m *sarama.ConsumerMessage, topicID string, malformed error) *event.Event {
	partition, offset := strconv.Itoa(int(m.Partition)), strconv.FormatInt(m.Offset, 10)
	x := extensions{all: map[string]any{"kafkatopic": m.Topic, "kafkapartition": partition, "kafkaoffset": offset}}
	if m.Key != nil {
		x.key(m.Key)
	}
	contentType := ""
	for _, h := range m.Headers {
		if strings.EqualFold(string(h.Key), contentTypeHeader) && source.IsDataContentType(string(h.Value)) {
			contentType = string(h.Value)
		} else {
			x.header(h)
		}
	}
	if x.omitted > 0 {
		x.all["kafkaomitted"] = strconv.Itoa(x.omitted)
	}
	if malformed != nil {
		x.all["kafkamalformed"] = source.Sentence(malformed)
	}
	c := &cloudevents.EventContextV1{
		ID:         m.Topic + "/" + partition + "/" + offset,
		Type:       plan.EventType(s.o.Source.Kind),
		Source:     s.source,
		Extensions: x.all,
	}
	if topicID != "" {
		c.ID += "/" + topicID
	}
	if m.Timestamp.UnixMilli() > 0 {
		c.Time = &types.Timestamp{Time: m.Timestamp.UTC().Truncate(time.Millisecond)}
		x.all["kafkatimestamp"] = types.FormatTime(c.Time.Time)
	}
	e := &event.Event{Context: c}
	if m.Value == nil { // a tombstone
		return e
	}
	if contentType == "" {
		contentType = source.GuessContentType(m.Value)
	}
	c.DataContentType = &contentType
	if len(m.Value) > 0 {
		e.DataEncoded = m.Value
	}
	return e
}

// extensions collects what a record has besides its value.
type extensions struct {
	all     map[string]any
	headers int
	omitted int
}

func (x *extensions) key(key []byte) {
	switch {
	case len(key) > source.MaxValueSize:
		x.omitted++
	case source.IsText(string(key)):
		x.all["partitionkey"] = string(key)
	default:
		x.all["kafkakeybase64"] = base64.StdEncoding.EncodeToString(key)
	}
}

func (x *extensions) header(h *sarama.RecordHeader) {
	if x.headers >= maxHeaders || len(h.Key) > maxNameSize || len(h.Value) > source.MaxValueSize {
		x.omitted++
		return
	}
	x.headers++
	name, value := "kafkaheader"+source.PlainName(string(h.Key)), string(h.Value)
	if !source.IsText(string(h.Value)) {
		name, value = name+"base64", base64.StdEncoding.EncodeToString(h.Value)
	}
	free := name
	for i := 2; x.all[free] != nil; i++ {
		free = name + strconv.Itoa(i)
	}
	x.all[free] = value
}
