package ingress

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
)

// kind is the value of source.KindExtension here.
const kind = "http"

// mode is how a request carries events.
type mode int

const (
	modeBinary mode = iota
	modeStructured
	modeBatch
	modeRaw
)

// modeOf tells the mode by headers alone, or refuses before the body is read.
func modeOf(r *http.Request, route *Route) (mode, error) {
	for _, encoding := range r.Header["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return 0, refuse(http.StatusUnsupportedMediaType, "content encoding %q is not supported: send the body as it is", encoding)
		}
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	mediaType = strings.TrimSpace(mediaType)
	const format = "application/cloudevents"
	if len(mediaType) >= len(format) && strings.EqualFold(mediaType[:len(format)], format) {
		switch {
		case strings.EqualFold(mediaType, event.MediaTypeStructured):
			return modeStructured, nil
		case strings.EqualFold(mediaType, event.MediaTypeBatch):
			return modeBatch, nil
		}
		return 0, refuse(http.StatusUnsupportedMediaType, "content type %q is not supported: send %s, %s or ce-* headers",
			mediaType, event.MediaTypeStructured, event.MediaTypeBatch)
	}
	for name := range r.Header {
		if isAttribute(name) {
			return modeBinary, nil
		}
	}
	if route.HTTP.Raw {
		return modeRaw, nil
	}
	return 0, refuse(http.StatusBadRequest, "the request is not a CloudEvent: send ce-specversion, ce-id, ce-source and ce-type headers "+
		"or content type %s, or set raw: true on event %s of EventSource %s/%s", event.MediaTypeStructured, route.Event, route.Namespace, route.EventSource)
}

func isAttribute(header string) bool {
	return len(header) > 3 && header[0]|0x20 == 'c' && header[1]|0x20 == 'e' && header[2] == '-'
}

// decode returns the one event of a request that is not a batch.
func (i *Ingress) decode(m mode, r *http.Request, body []byte, route *Route) (*event.Event, error) {
	switch m {
	case modeStructured:
		e, err := event.ParseStructured(body)
		if err != nil {
			return nil, err
		}
		return e, prepare(e, route)
	case modeRaw:
		return i.wrap(r, body, route)
	}
	return binary(r, body, route)
}

func (i *Ingress) decodeBatch(body []byte, route *Route) ([]*event.Event, error) {
	events, err := event.ParseBatch(body)
	if err != nil {
		return nil, err
	}
	if len(events) > i.o.MaxBatch {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the batch has %d events: send at most %d at once", len(events), i.o.MaxBatch)
	}
	for _, e := range events {
		if err := prepare(e, route); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// binary reads the attributes in one pass over the headers.
func binary(r *http.Request, body []byte, route *Route) (*event.Event, error) {
	var b event.Binary
	for header, values := range r.Header {
		if !isAttribute(header) || len(values) == 0 {
			continue
		}
		name := attributeName(header)
		if len(values) > 1 {
			return nil, refuse(http.StatusBadRequest, "header %s is there %d times: send it once", header, len(values))
		}
		value := event.UnescapeHeader(values[0])
		if name == ttl {
			if err := checkTTL(value); err != nil {
				return nil, err
			}
		}
		if err := b.Set(name, value); err != nil {
			return nil, err
		}
	}
	if route.MarkKind {
		if err := b.Set(source.KindExtension, kind); err != nil {
			return nil, err
		}
	}
	return b.Event(r.Header.Get("Content-Type"), body)
}

// attributeName spares the common names, which net/http has made canonical, the memory of a lower-case copy.
func attributeName(header string) string {
	switch header {
	case "Ce-Id":
		return "id"
	case "Ce-Source":
		return "source"
	case "Ce-Specversion":
		return "specversion"
	case "Ce-Subject":
		return "subject"
	case "Ce-Time":
		return "time"
	case "Ce-Type":
		return "type"
	}
	return strings.ToLower(header[3:])
}

// ttl is how brokers in the chain before us count hops, so that a loop comes to its end.
const ttl = "knativebrokerttl"

// prepare checks an event that was read whole and marks its kind.
func prepare(e *event.Event, route *Route) error {
	extensions := e.Extensions()
	switch left := extensions[ttl].(type) {
	case string:
		if err := checkTTL(left); err != nil {
			return err
		}
	case int32:
		if left <= 0 {
			return ttlUsedUp(strconv.Itoa(int(left)))
		}
	}
	if route.MarkKind {
		return e.Context.SetExtension(source.KindExtension, kind)
	}
	return nil
}

func checkTTL(value string) error {
	if left, err := strconv.Atoi(value); err == nil && left <= 0 {
		return ttlUsedUp(value)
	}
	return nil
}

func ttlUsedUp(value string) error {
	return refuse(http.StatusBadRequest, "%s is %s: the event has been through too many brokers, look for a loop", ttl, value)
}
