package ingress

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
)

// rawAttribute says how raw bodies get one attribute: from the template, or otherwise from what is always there.
type rawAttribute struct {
	name      string
	template  *event.Template // nil: none, or one that is text alone
	otherwise string
}

func newRawAttributes(o *RouteOptions) ([]rawAttribute, error) {
	attributes := []rawAttribute{
		{name: "id"},
		{name: "source", otherwise: o.SourceURI},
		{name: "type", otherwise: v1alpha1.DefaultHTTPType},
		{name: "subject"},
	}
	for n, text := range [...]string{o.HTTP.ID, o.HTTP.Source, o.HTTP.Type, o.HTTP.Subject} {
		if text == "" {
			continue
		}
		a := &attributes[n]
		t, err := event.ParseTemplate(text)
		if err == nil && t.IsText() && a.name == "id" {
			err = errors.New("is the same for all events, which would be repeats of the first")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		if t.IsText() {
			a.otherwise = text
		} else {
			a.template = t
		}
	}
	return attributes, nil
}

// wrap makes an event of a body that is none.
func (i *Ingress) wrap(r *http.Request, body []byte, route *Route) (*event.Event, error) {
	var b event.Binary
	for _, a := range [...][2]string{{"specversion", "1.0"}, {"time", i.o.Now().UTC().Format(time.RFC3339Nano)}} {
		if err := b.Set(a[0], a[1]); err != nil {
			return nil, err
		}
	}
	var p *event.Posted
	for _, a := range route.raw {
		value := a.otherwise
		if a.template != nil {
			if p == nil {
				p = posted(r, body)
			}
			var err error
			if value, err = a.expand(p); err != nil {
				return nil, refuse(http.StatusBadRequest, "attribute %s: %v", a.name, err)
			}
		}
		if value == "" && a.name == "id" {
			value = i.o.NewID()
		}
		if err := b.Set(a.name, value); err != nil {
			return nil, err
		}
	}
	if route.MarkKind {
		if err := b.Set(source.KindExtension, kind); err != nil {
			return nil, err
		}
	}
	contentType := r.Header.Get("Content-Type")
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	return b.Event(contentType, body)
}

func posted(r *http.Request, body []byte) *event.Posted {
	query := sync.OnceValue(r.URL.Query)
	return &event.Posted{Header: r.Header.Get, Query: func(name string) string { return query().Get(name) }, Body: body}
}

func (a *rawAttribute) expand(p *event.Posted) (string, error) {
	value, whole, err := a.template.Expand(p)
	// Half an id would be that of other events too, and the bus would take those for repeats of one.
	if strings.TrimSpace(value) == "" || a.name == "id" && !whole {
		value = a.otherwise
	}
	return value, err
}
