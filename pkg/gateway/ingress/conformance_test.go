package ingress_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// served is an ingress as a source: it receives as long as it listens.
type served struct {
	listener net.Listener
	source   plan.Source
}

func (s *served) Run(ctx context.Context, next event.Handler, ready func(error)) error {
	i := ingress.New(ingress.Options{})
	defer i.Close()
	o := s.source
	route, err := i.NewRoute(ingress.RouteOptions{
		Namespace: o.Namespace, EventSource: o.EventSource, Event: o.Event, MarkKind: o.MarkKind, Next: next,
		SourceURI: plan.SourceURI(o.Namespace, o.EventSource, o.Event),
		HTTP:      plan.HTTP{Raw: true, MaxBodyBytes: 2 << 20, ID: "${header.X-Id}"},
	})
	if err != nil {
		return err
	}
	i.SetRoutes([]*ingress.Route{route})
	ready(nil)
	return ingress.Serve(ctx, s.listener, i.Handler(), time.Minute)
}

// The callers of a route are its server: what they get no 2xx for, they post again.
func TestE2EConformance(t *testing.T) {
	var ids atomic.Int64
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(address string, header http.Header, body []byte) {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			request, err := http.NewRequest(http.MethodPost, "http://"+address+"/ns/es/ev", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			request.Header = header
			answer, err := client.Do(request)
			if err != nil {
				continue
			}
			_ = answer.Body.Close()
			if answer.StatusCode < 500 {
				return
			}
		}
	}
	sourcetest.Run(t, sourcetest.Fixture{
		Kind:   "http",
		Origin: servers.FreeAddress,
		New: func(t testing.TB, p sourcetest.Process) source.Source {
			l, err := net.Listen("tcp", p.Origin)
			if err != nil {
				t.Fatal(err)
			}
			return &served{l, p.Source}
		},
		Produce: func(_ testing.TB, address string, data ...[]byte) {
			for _, d := range data {
				go post(address, http.Header{"X-Id": {fmt.Sprint(ids.Add(1))}}, d)
			}
		},
		ProduceEvent: func(_ testing.TB, address string, e *event.Event) {
			header := http.Header{}
			event.EachAttribute(e, func(name, value string) { header["Ce-"+name] = []string{event.EscapeHeader(value)} })
			if contentType := e.DataContentType(); contentType != "" {
				header.Set("Content-Type", contentType)
			}
			go post(address, header, e.Data())
		},
	})
}
