package cron

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// kind is the value of source.KindExtension here.
const kind = "cron"

// newEvent returns the event of a tick. It is the same wherever it is made.
func newEvent(s plan.Source, tick time.Time) (*event.Event, error) {
	at := tick.UTC().Format(time.RFC3339Nano)
	var b event.Binary
	attributes := [][2]string{
		{"specversion", "1.0"}, {"id", at}, {"source", plan.SourceURI(s.Namespace, s.EventSource, s.Event)}, {"type", plan.EventType(kind)}, {"time", at},
	}
	if s.MarkKind {
		attributes = append(attributes, [2]string{source.KindExtension, kind})
	}
	for _, a := range attributes {
		if err := b.Set(a[0], a[1]); err != nil {
			return nil, fmt.Errorf("make the event of tick %s: %w", at, err)
		}
	}
	contentType := s.Cron.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	data, err := dataOf(s.Cron, at)
	if err != nil {
		return nil, fmt.Errorf("make the data of tick %s: %w", at, err)
	}
	e, err := b.Event(contentType, data)
	if err != nil {
		return nil, fmt.Errorf("make the event of tick %s: %w", at, err)
	}
	return e, nil
}

func dataOf(c *plan.Cron, at string) ([]byte, error) {
	if c.Data != nil {
		return []byte(*c.Data), nil
	}
	return json.Marshal(struct {
		Time     string `json:"time"`
		Schedule string `json:"schedule"`
	}{at, c.Schedule})
}
