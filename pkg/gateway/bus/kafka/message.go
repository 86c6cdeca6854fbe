package kafka

import (
	"bytes"
	"fmt"
	"mime"
	"strings"

	"github.com/IBM/sarama"
	"github.com/cespare/xxhash/v2"

	"github.com/openfunction/events/pkg/event"
)

const (
	prefix      = "ce_"
	contentType = "content-type"
)

// encode returns e in the binary mode of the CloudEvents Kafka binding, with the extension partitionkey as its key. If its data is itself
// of a CloudEvents type, it is in structured mode: by that type the binding tells the modes apart. Its Partition is a hash of its source and id, and
// not yet a partition.
func encode(topic string, e *event.Event) (*sarama.ProducerMessage, error) {
	m := &sarama.ProducerMessage{Topic: topic, Headers: make([]sarama.RecordHeader, 0, 8+len(e.Extensions()))}
	add := func(name, value string) {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	if key := event.PartitionKey(e); key != "" {
		m.Key = sarama.StringEncoder(key)
	}
	ct := e.DataContentType()
	if strings.HasPrefix(mediaTypeOf(ct), "application/cloudevents") {
		data, err := event.Structured(e)
		m.Value, m.Partition = sarama.ByteEncoder(data), hash(e.Source(), e.ID())
		add(contentType, event.MediaTypeStructured)
		return m, err
	}
	source := "" // what Source returns is made anew each time
	event.EachAttribute(e, func(name, value string) {
		add(prefix+name, value)
		if name == "source" {
			source = value
		}
	})
	m.Partition = hash(source, e.ID())
	if ct != "" {
		add(contentType, ct)
	}
	if data := e.DataEncoded; len(data) > 0 {
		m.Value = sarama.ByteEncoder(data)
	}
	return m, nil
}

// hash is of what makes events the same, and the same in every process. It is not negative.
func hash(source, id string) int32 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(source)
	_, _ = d.WriteString(id)
	return int32(d.Sum64() >> 33)
}

func mediaTypeOf(contentType string) string {
	mediaType, _, _ := mime.ParseMediaType(contentType)
	return mediaType
}

// decode returns the event in a record of either mode.
func decode(m *sarama.ConsumerMessage) (*event.Event, error) {
	var b event.Binary
	isBinary, ct := false, ""
	for _, h := range m.Headers {
		name := strings.ToLower(string(h.Key))
		if name == contentType {
			ct = string(h.Value)
			continue
		}
		attribute, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		isBinary = true
		if err := b.Set(attribute, string(h.Value)); err != nil {
			return nil, err
		}
	}
	switch {
	case mediaTypeOf(ct) == event.MediaTypeStructured:
		return event.ParseStructured(m.Value)
	case isBinary:
		return b.Event(ct, m.Value)
	case bytes.HasPrefix(bytes.TrimLeft(m.Value, " \t\r\n"), []byte("{")): // Dapr names no content type
		return event.ParseStructured(m.Value)
	}
	return nil, fmt.Errorf("%w: neither ce_ headers nor a JSON object", event.ErrMalformed)
}
