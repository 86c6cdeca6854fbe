package redis

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
)

// scripted is a server that does what a test says, in a synctest bubble: its connections are pipes.
type scripted struct {
	t     *testing.T
	peers chan *served
}

// served is the server's end of one connection. Like a network, it takes what the client says at once.
type served struct {
	t        *testing.T
	conn     net.Conn
	commands chan string // closed when the connection ends
}

func (s *scripted) options(way, key string) Options {
	o := options(way, key, "redis.example:6379")
	o.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		p := &served{t: s.t, conn: theirs, commands: make(chan string, 100)}
		go p.listen()
		s.peers <- p
		return ours, nil
	}
	return o
}

func (p *served) listen() {
	defer close(p.commands)
	for r := bufio.NewReader(p.conn); ; {
		n := 0
		if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
			return
		}
		words := make([]string, n)
		for i := range words {
			if _, err := fmt.Fscanf(r, "$%d\r\n", new(int)); err != nil {
				return
			}
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			words[i] = strings.TrimSpace(line)
		}
		p.commands <- strings.ToLower(strings.Join(words, " "))
	}
}

// subscribed is the next connection on which the client subscribes to news, and is told that it has.
func (s *scripted) subscribed() *served {
	for {
		p, answer := <-s.peers, ""
		for command := range p.commands {
			if answer = "-ERR unknown command\r\n"; command == "subscribe news" {
				answer = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
			}
			if _, err := io.WriteString(p.conn, answer); err == nil && command == "subscribe news" {
				return p
			}
		}
	}
}

func (p *served) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil {
		p.t.Fatal(err)
	}
}

// expectPing waits for the question whether the server is there.
func (p *served) expectPing() {
	p.t.Helper()
	if got := <-p.commands; got != "ping" {
		p.t.Fatalf("the client says %q, want ping", got)
	}
}

const pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n"

func published(data string) string {
	return fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$%d\r\n%s\r\n", len(data), data)
}

// A network that stands still in the middle of a message costs nothing, however much of the message had come, and wherever it began.
func TestAMessageWhoseMiddleIsLateIsTakenWhole(t *testing.T) {
	whole := published("second, and it is long")
	for _, cut := range []int{1, 4, 30, len(whole) - 1} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, s := &scripted{t, make(chan *served, 10)}, &runtest.Sink{}
				r := start(t, server.options("channel", "news"), s)
				p := server.subscribed()
				r.AwaitReady(true)
				p.send(published("first") + whole[:cut])
				time.Sleep(silence + silence/2)
				p.expectPing()
				p.send(whole[cut:] + pong + published("third"))
				runtest.Eventually(t, "every message", func() bool {
					return s.Count("first") == 1 && s.Count("second, and it is long") == 1 && s.Count("third") == 1
				})
				if len(r.Ready) != 0 || len(server.peers) > 0 {
					t.Errorf("ready was called %d times more and %d connections were made anew, want none of it", len(r.Ready), len(server.peers))
				}
				r.End()
			})
		})
	}
}

func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, s := &scripted{t, make(chan *served, 10)}, &runtest.Sink{}
		r := start(t, server.options("channel", "news"), s)
		p := server.subscribed()
		r.AwaitReady(true)
		for range 10 {
			p.expectPing()
			p.send(pong)
		}
		if n := len(r.Ready); n != 0 {
			t.Errorf("ready was called %d times more while the server answered, first with %v", n, <-r.Ready)
		}
		p.send(published("half")[:20])
		p.expectPing()
		if err := r.AwaitReady(false).Error(); !strings.HasPrefix(err, "redis redis.example:6379: ") || !strings.Contains(err, "timeout") {
			t.Errorf("ready(%s), want that redis.example:6379 does not answer", err)
		}
		p = server.subscribed()
		r.AwaitReady(true)
		p.send(published("after"))
		runtest.Eventually(t, "a message of the next connection", func() bool { return s.Count("after") == 1 })
		r.End()
	})
}
