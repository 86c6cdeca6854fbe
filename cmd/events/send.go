package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"golang.org/x/net/http/httpguts"

	"github.com/openfunction/events/pkg/event"
)

const aboutSend = `Send posts CloudEvents in binary mode and prints how many were taken and how long that took.`

// maxConcurrency bounds the connections of one send.
const maxConcurrency = 1024

// sendOptions are the options of send.
type sendOptions struct {
	to, typ, source, id, subject, data, contentType string
	header                                          list
	count, concurrency                              int
	rate                                            float64
	timeout                                         time.Duration
}

func sendCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o sendOptions
	f := newFlags("send", "--to URL", aboutSend, stderr)
	f.StringVar(&o.to, "to", "", "`URL` to post to, for example http://127.0.0.1:8080/default/my-eventsource/my-event")
	f.StringVar(&o.typ, "type", "io.openfunction.events.test", "`type` of the events")
	f.StringVar(&o.source, "source", "/events/send", "`source` of the events, a URI reference")
	f.StringVar(&o.id, "id", "", "`id` of the event; with --count, -1 and so on is appended; default: a UUID each")
	f.StringVar(&o.subject, "subject", "", "`subject` of the events")
	f.StringVar(&o.data, "data", "", "`JSON`, other text, @FILE, or - for the standard input")
	f.StringVar(&o.contentType, "content-type", "", "content `type` of the data; default: application/json, or text/plain for what is not JSON")
	f.Var(&o.header, "header", "header of each request, `'NAME: VALUE'`, for example \"Authorization: Bearer $TOKEN\"; may be repeated")
	f.IntVar(&o.count, "count", 1, "how many events to send, `N`")
	f.Float64Var(&o.rate, "rate", 0, "at most `R` events a second; 0 means as fast as they are taken")
	f.IntVar(&o.concurrency, "concurrency", 16, "how many events are under way at once, `N`")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long one event may take, `DURATION`")
	if code, ok := f.parse(args, stdout); !ok {
		return code
	}
	if f.NArg() > 0 {
		return f.misused("argument %q: not understood", f.Arg(0))
	}
	if err := o.check(); err != nil {
		return f.misused("%v", err)
	}
	data, contentType, err := o.payload()
	if err != nil {
		return f.failed(err)
	}
	if _, err := o.event(1, data, contentType); err != nil {
		return f.failed(err)
	}
	s := &sender{sendOptions: o, payload: data, mediaType: contentType, stderr: stderr}
	s.send(ctx)
	return s.summary(stdout)
}

func (o *sendOptions) check() error {
	u, err := url.Parse(o.to)
	switch {
	case o.to == "":
		return fmt.Errorf("no destination given: want --to URL")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("to %q: want an http or https URL", o.to)
	case slices.ContainsFunc(o.header, isNoHeader):
		return fmt.Errorf("header: want 'NAME: VALUE'") // what it is instead may be secret
	case flagInstead(o.header) != nil:
		return flagInstead(o.header)
	case o.count < 1:
		return fmt.Errorf("count %d: want 1 or more", o.count)
	case o.concurrency < 1 || o.concurrency > maxConcurrency:
		return fmt.Errorf("concurrency %d: want 1 to %d", o.concurrency, maxConcurrency)
	case !(o.rate >= 0) || math.IsInf(o.rate, 0):
		return fmt.Errorf("rate %g: want 0 or more", o.rate)
	case o.timeout <= 0:
		return fmt.Errorf("timeout %s: want more than 0", o.timeout)
	}
	return nil
}

// field returns the name and the value of a header.
func field(header string) (name, value string) {
	name, value, _ = strings.Cut(header, ":")
	return name, strings.TrimSpace(value)
}

func isNoHeader(header string) bool {
	name, value := field(header)
	return !strings.Contains(header, ":") || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value)
}

// flagInstead refuses headers that would take the place of what each event says of itself; extensions have no flag.
func flagInstead(headers []string) error {
	for _, h := range headers {
		name, _ := field(h)
		switch attribute := strings.TrimPrefix(strings.ToLower(name), "ce-"); strings.ToLower(name) {
		case "ce-id", "ce-type", "ce-source", "ce-subject":
			return fmt.Errorf("header %s: use --%s", name, attribute)
		case "ce-time", "ce-specversion":
			return fmt.Errorf("header %s: is set for each event", name)
		}
	}
	return nil
}

// payload returns the data and its content type.
func (o *sendOptions) payload() ([]byte, string, error) {
	data := []byte(o.data)
	var err error
	if name, ok := strings.CutPrefix(o.data, "@"); name == "-" {
		data, err = io.ReadAll(os.Stdin)
	} else if ok {
		data, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, "", fmt.Errorf("data: %w", err)
	}
	switch {
	case o.contentType != "" || len(data) == 0:
		return data, o.contentType, nil
	case json.Valid(data):
		return data, cloudevents.ApplicationJSON, nil
	}
	return data, cloudevents.TextPlain, nil
}

// event makes the nth event, counted from one.
func (o *sendOptions) event(n int, data []byte, contentType string) (*event.Event, error) {
	id := o.id
	switch {
	case id == "":
		id = uuid.NewString()
	case o.count > 1:
		id += "-" + strconv.Itoa(n)
	}
	var b event.Binary
	attributes := [][2]string{{"specversion", "1.0"}, {"id", id}, {"source", o.source}, {"type", o.typ}}
	if o.subject != "" {
		attributes = append(attributes, [2]string{"subject", o.subject})
	}
	attributes = append(attributes, [2]string{"time", time.Now().UTC().Format(time.RFC3339Nano)})
	for _, a := range attributes {
		if err := b.Set(a[0], a[1]); err != nil {
			return nil, err
		}
	}
	return b.Event(contentType, data)
}
