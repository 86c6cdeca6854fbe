package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/gorilla/websocket"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
)

// A session may have kept more than there is room for. No more than that is read, also before the subscription is answered, however long
// that takes.
func TestWhatComesBeforeTheSubscriptionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		o := options("tcp://mqtt.example", 5, 0)
		o.Dial = func(context.Context, string, string) (net.Conn, error) { return ours, nil }
		free := make(chan struct{})
		s := &runtest.Sink{Refuse: func(string) error { <-free; return nil }}
		r := start(t, o, s)
		p := &served{t: t, conn: theirs}
		expect[*packets.Connect](p)
		p.send(&packets.Connack{SessionPresent: true, Properties: &packets.Properties{}})
		sub := expect[*packets.Subscribe](p)
		go func() { _, _ = io.Copy(io.Discard, theirs) }()

		payload := strings.Repeat("x", 1<<20)
		sent, most := 0, maxBytes>>20+2 // one is being received, and one may be in a buffer
		go func() {
			for ; sent < 2*most; sent++ {
				p.publish(0, 0, false, fmt.Sprint("t/", sent), payload)
			}
			p.send(&packets.Suback{PacketID: sub.PacketID, Reasons: []byte{0}, Properties: &packets.Properties{}})
		}()
		time.Sleep(2 * connectTimeout)
		synctest.Wait()
		if sent < maxBytes>>20 || sent > most {
			t.Errorf("%d MiB were read while nothing was taken, want %d", sent, maxBytes>>20)
		}
		close(free)
		if err := r.AwaitReady(true); err != nil {
			t.Error(err)
		}
		runtest.Eventually(t, "every message", func() bool { return len(s.Events()) == 2*most })
		theirs.Close()
		r.End()
	})
}

// webserver answers the requests for a websocket.
func webserver(t *testing.T, handle func(http.ResponseWriter, *http.Request)) Options {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(handle))
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	return options("ws://u:hunter2@"+server.Listener.Addr().String()+"/mqtt?token=hunter2", 5, 0)
}

func TestAWebsocketThatIsRefusedShowsNoToken(t *testing.T) {
	r := start(t, webserver(t, http.NotFound), &runtest.Sink{})
	err := r.AwaitReady(false).Error()
	if strings.Contains(err, "hunter2") || !strings.Contains(err, "/mqtt?***: HTTP 404 Not Found") {
		t.Errorf("ready(%s), want where there is no websocket, without the token", err)
	}
}

func TestAnAnswerWithoutEndIsNotRead(t *testing.T) {
	r := start(t, webserver(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		for _, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nX: "); err == nil; {
			_, err = conn.Write(bytes.Repeat([]byte("x"), 1<<16))
		}
	}), &runtest.Sink{})
	if err := r.AwaitReady(false).Error(); !strings.HasSuffix(err, "the answer of the HTTP server is longer than 131072 bytes") {
		t.Errorf("ready(%s), want that the answer is too long", err)
	}
}

// The messages of a websocket are read in parts: nothing bounds how long one is.
func TestAMessageOfAWebsocketNeedNoEnd(t *testing.T) {
	frame := func(c *websocket.Conn, first bool, packet io.WriterTo) error {
		var b bytes.Buffer
		_, _ = packet.WriteTo(&b)
		head := []byte{0, byte(b.Len())}
		if first {
			head[0] = websocket.BinaryMessage // that other frames follow
		}
		_, err := c.UnderlyingConn().Write(append(head, b.Bytes()...))
		return err
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
	s := &runtest.Sink{}
	start(t, webserver(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		_ = frame(c, true, &packets.Connack{Properties: &packets.Properties{}})
		_ = frame(c, false, &packets.Suback{PacketID: subscribeID, Reasons: []byte{0}, Properties: &packets.Properties{}})
		_ = frame(c, false, &packets.Publish{Topic: "t/a", Payload: []byte("of a part"), Properties: &packets.Properties{}})
		for err == nil {
			_, _, err = c.ReadMessage()
		}
	}), s)
	s.Await(t, "of a part")
}
