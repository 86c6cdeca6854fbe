//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
)

// payloads are what must survive byte for byte, with the content type they are sent with.
func payloads() map[string]struct {
	contentType string
	data        []byte
} {
	type payload = struct {
		contentType string
		data        []byte
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	large := make([]byte, 900<<10)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(large)
	return map[string]payload{
		"binary":            {"application/octet-stream", all},
		"utf8":              {"text/plain; charset=utf-8", []byte("größe, 日本語, 🎉 \u2028 \x00 end")},
		"onebyte":           {"text/plain", []byte("x")},
		"onezerobyte":       {"application/octet-stream", []byte{0}},
		"large":             {"application/octet-stream", large},
		"nestedjson":        {"application/json", []byte(`{"a":{"b":[1,2.50,{"c":null,"d":"\u00e9"}]},"big":9007199254740993}`)},
		"oddlyspacedjson":   {"application/json", []byte(" {\t\"a\" :\n 1 }\r\n")},
		"jsonnotjson":       {"application/json", []byte(`{"a":`)},
		"jsonstring":        {"application/json", []byte(`"text"`)},
		"jsonnull":          {"application/json", []byte(`null`)},
		"vendorjson":        {"application/vnd.acme+json", []byte(`{"a":1}`)},
		"xml":               {"application/xml", []byte(`<a b="c">ü</a>`)},
		"invalidutf8astext": {"text/plain", []byte{'a', 0xff, 'b'}},
		"empty":             {"", nil},
	}
}

var attributes = map[string]string{
	"source": "https://example.com/größe?x=1", "type": "com.example.test", "subject": `50% "of" größe`, "time": "2026-01-02T03:04:05.123456789Z",
	"dataschema": "https://example.com/schema", "myext": "a b", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}

// TestE2EPayloads sends every payload in every HTTP mode over every bus and compares what the sink got.
func TestE2EPayloads(t *testing.T) {
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			s := newSink(t)
			p := run(t, append([]string{"-f", write(t, "path.yaml", path(b.yaml, "payload")), "--sink", "default/each=" + s.URL}, b.args...)...)
			want, contentTypes := map[string][]byte{}, map[string]string{}
			var batch []json.RawMessage
			for name, payload := range payloads() {
				for _, mode := range []string{"binary", "structured", "batch"} {
					id := name + "-" + mode
					want[id], contentTypes[id] = payload.data, payload.contentType
					switch mode {
					case "binary":
						binaryMode(t, p.url+"/default/payload/a", id, payload.contentType, payload.data)
					case "structured":
						post202(t, p.url+"/default/payload/a", event.MediaTypeStructured, structured(id, payload.contentType, payload.data))
					case "batch":
						if name == "large" { // a batch of its own, within the body limit
							post202(t, p.url+"/default/payload/a", event.MediaTypeBatch, []byte("["+string(structured(id, payload.contentType, payload.data))+"]"))
							continue
						}
						batch = append(batch, structured(id, payload.contentType, payload.data))
					}
				}
			}
			body, _ := json.Marshal(batch)
			post202(t, p.url+"/default/payload/a", event.MediaTypeBatch, body)
			eventually(t, 60*time.Second, "all payloads", func() error {
				if got := len(s.ids()); got < len(want) {
					return fmt.Errorf("%d of %d", got, len(want))
				}
				return nil
			})
			for _, e := range s.received() {
				if !bytes.Equal(e.Data(), want[e.ID()]) {
					t.Errorf("%s: data is %.80q (%d bytes), want %.80q (%d bytes)", e.ID(), e.Data(), len(e.Data()), want[e.ID()], len(want[e.ID()]))
				}
				if got := e.DataContentType(); got != contentTypes[e.ID()] {
					t.Errorf("%s: content type is %q, want %q", e.ID(), got, contentTypes[e.ID()])
				}
				got := map[string]string{}
				event.EachAttribute(e, func(name, value string) { got[name] = value })
				delete(got, "id")
				delete(got, "specversion")
				if diff := cmp.Diff(attributes, got); diff != "" {
					t.Errorf("%s: attributes (-want +got):\n%s", e.ID(), diff)
				}
			}
		})
	}
}

func structured(id, contentType string, data []byte) []byte {
	m := map[string]any{"specversion": "1.0", "id": id}
	for k, v := range attributes {
		m[k] = v
	}
	if contentType != "" {
		m["datacontenttype"] = contentType
	}
	switch {
	case data == nil:
	case contentType == "application/json" && json.Valid(data) && bytes.Equal(bytes.TrimSpace(data), data) && string(data) != "null":
		m["data"] = json.RawMessage("@")
		// Marshal would compact the data: put its very bytes in afterwards.
		m["data"] = "@data@"
		out, _ := json.Marshal(m)
		return bytes.Replace(out, []byte(`"@data@"`), data, 1)
	default:
		m["data_base64"] = base64.StdEncoding.EncodeToString(data)
	}
	out, _ := json.Marshal(m)
	return out
}

func binaryMode(t *testing.T, url, id, contentType string, data []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("ce-specversion", "1.0")
	req.Header.Set("ce-id", id)
	for k, v := range attributes {
		req.Header.Set("ce-"+k, event.EscapeHeader(v))
	}
	if code, body := do(req); code != http.StatusAccepted {
		t.Fatalf("%s: status %d: %s", id, code, body)
	}
}

func post202(t *testing.T, url, contentType string, body []byte) {
	t.Helper()
	resp, err := client.Post(url, contentType, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("POST %s of %d bytes: status %d", contentType, len(body), resp.StatusCode)
	}
}
