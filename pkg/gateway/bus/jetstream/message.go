package jetstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	prefix      = "ce-"
	contentType = "content-type"
)

// headerNames of the attributes that most events have.
var headerNames = map[string]string{
	"specversion": prefix + "specversion", "id": prefix + "id", "source": prefix + "source", "type": prefix + "type",
	"subject": prefix + "subject", "time": prefix + "time", "dataschema": prefix + "dataschema", "schemaurl": prefix + "schemaurl",
}

// encode returns e in the binary mode of the CloudEvents NATS binding, with the id by which the server recognises duplicates.
func encode(t bus.Topic, e *event.Event) *nats.Msg {
	const most = 9 // attributes that are not extensions, and the two below
	values := make([]string, 0, most+len(e.Extensions()))
	header := make(nats.Header, cap(values))
	add := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	event.EachAttribute(e, func(name, value string) {
		key, ok := headerNames[name]
		if !ok {
			key = prefix + name
		}
		add(key, event.EscapeHeader(value))
	})
	if ct := e.DataContentType(); ct != "" {
		add(contentType, ct)
	}
	add(jetstream.MsgIDHeader, messageID(t, e))
	return &nats.Msg{Subject: t.Name, Header: header, Data: e.DataEncoded}
}

// messageID tells events apart as bus.Topic says. A stream holds many topics, so the topic's name is part of it.
func messageID(t bus.Topic, e *event.Event) string {
	buf := make([]byte, 0, 256)
	for _, s := range [...]string{t.Name, t.Origin, e.Source(), e.ID()} {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	sum := sha256.Sum256(buf)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// decode returns the event in a message of either mode.
func decode(header nats.Header, data []byte) (*event.Event, error) {
	var b event.Binary
	isBinary, ct := false, ""
	for name, values := range header {
		if len(values) == 0 {
			continue
		}
		if hasUpper(name) {
			name = strings.ToLower(name)
		}
		if name == contentType {
			ct = values[0]
			continue
		}
		attribute, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		isBinary = true
		if err := b.Set(attribute, event.UnescapeHeader(values[0])); err != nil {
			return nil, err
		}
	}
	if isBinary {
		return b.Event(ct, data)
	}
	if strings.HasPrefix(ct, event.MediaTypeStructured) || bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return event.ParseStructured(data)
	}
	return nil, fmt.Errorf("%w: neither ce- headers nor a JSON object", event.ErrMalformed)
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return true
		}
	}
	return false
}
