package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
)

// asMember makes o that of a member of a group.
func asMember(o Options, n, of int) Options {
	o.Source.MQTT.Group, o.Source.MQTT.Member, o.Source.MQTT.Members = "g", n, of
	return o
}

// last is the client id of the last member that a group can have.
const last = "client-e42e2fc8-9"

// heir starts the first member of a group that has had one more, and returns when it receives.
func heir(t *testing.T, server *scripted, s *runtest.Sink) (*runtest.Running, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	r := startLogged(t, asMember(server.options(1), 0, plan.MaxMembers-1), s, zap.New(core).Sugar())
	p := server.welcome(true, 1)
	r.AwaitReady(true)
	go func() {
		defer p.conn.Close()
		for {
			if c, err := packets.ReadPacket(p.conn); err != nil || c.Type == packets.DISCONNECT {
				return
			}
		}
	}()
	return r, logs
}

// resume accepts the heir in the place of the last member.
func (s *scripted) resume(sessionPresent bool) *served {
	s.t.Helper()
	p := s.accept()
	if c := p.connect; c.ClientID != last || c.CleanStart || *c.Properties.SessionExpiryInterval != sessionExpiry {
		s.t.Fatalf("the client sent %s, want it to resume the session of %s", c, last)
	}
	p.send(&packets.Connack{SessionPresent: sessionPresent, Properties: &packets.Properties{}})
	return p
}

// expectEnd waits for the session of the last member to be ended.
func (s *scripted) expectEnd() {
	s.t.Helper()
	p := s.accept()
	if c := p.connect; c.ClientID != last || !c.CleanStart || *c.Properties.SessionExpiryInterval != 0 {
		s.t.Fatalf("the client sent %s, want it to end the session of %s", c, last)
	}
	p.send(&packets.Connack{Properties: &packets.Properties{}})
	expect[*packets.Disconnect](p)
	_ = p.conn.Close()
}

// expectUnsubscribed answers the end of the subscription.
func (p *served) expectUnsubscribed() {
	p.t.Helper()
	u := expect[*packets.Unsubscribe](p)
	if len(u.Topics) != 1 || u.Topics[0] != "$share/g/t/#" {
		p.t.Fatalf("the client sent %s, want the end of the subscription to $share/g/t/#", u)
	}
	p.send(&packets.Unsuback{PacketID: u.PacketID, Reasons: []byte{0}, Properties: &packets.Properties{}})
}

// pong answers pings until it has answered n, or until something else comes, which it returns.
func (p *served) pong(n int) packets.Packet {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(runtest.Deadline))
	for range n {
		c, err := packets.ReadPacket(p.conn)
		if err != nil {
			p.t.Fatalf("want a ping: %v", err)
		}
		if c.Type != packets.PINGREQ {
			return c.Content
		}
		p.send(&packets.Pingresp{})
	}
	return nil
}

// pongs answers a ping. It is false when the client has gone without a word.
func (p *served) pongs() bool {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(runtest.Deadline))
	c, err := packets.ReadPacket(p.conn)
	if err == nil && c.Type != packets.PINGREQ || errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("the client sent %s, %v; want pings and then nothing", c, err)
	}
	if err == nil {
		p.send(&packets.Pingresp{})
	}
	return err == nil
}

func TestWhatAFormerMemberLeavesIsTakenBeforeItsSessionEnds(t *testing.T) {
	t.Parallel()
	server, free := newScripted(t), make(chan struct{})
	s := &runtest.Sink{Refuse: func(data string) error {
		if data == "slow" {
			<-free
		}
		return nil
	}}
	_, logs := heir(t, server, s)
	p := server.resume(true)
	p.publish(1, 1, true, "t/a", "first")
	p.expectUnsubscribed()
	p.expectAck(1)
	p.publish(2, 1, false, "t/a", "slow")
	if got := p.pong(quietPings + 2); got != nil {
		t.Fatalf("the client sent %s while a message is not taken", got)
	}
	close(free)
	if got, ok := p.pong(1000).(*packets.Puback); !ok || got.PacketID != 2 {
		t.Fatalf("the client sent %s, want PUBACK of 2", got)
	}
	p.pong(quietPings - 2)
	p.publish(3, 1, false, "t/a", "late")
	if got, ok := p.pong(1000).(*packets.Puback); !ok || got.PacketID != 3 {
		t.Fatalf("the client sent %s, want PUBACK of 3", got)
	}
	if got := p.pong(quietPings - 1); got != nil {
		t.Fatalf("the client sent %s when it had only just got a message", got)
	}
	if got, ok := p.pong(1000).(*packets.Disconnect); !ok || got.Properties.SessionExpiryInterval != nil {
		t.Fatalf("the client sent %s, want the end of the connection", got)
	}
	_ = p.conn.Close()
	server.expectEnd()
	s.Await(t, "first", "slow", "late")
	runtest.Eventually(t, "a line in the log", func() bool { return logs.Len() > 0 })
	if l := logs.All(); len(l) != 1 || l[0].Message != "the session of a member that is no more is ended" || l[0].ContextMap()["member"] != last {
		t.Errorf("logged %v, want that the session of %s is ended", l, last)
	}
}

func TestAMemberThatNeverWasHasNoSessionAfterwards(t *testing.T) {
	t.Parallel()
	server := newScripted(t)
	r, logs := heir(t, server, &runtest.Sink{})
	p := server.resume(false)
	expect[*packets.Disconnect](p)
	_ = p.conn.Close()
	server.expectEnd()
	r.End()
	if logs.Len() > 0 {
		t.Errorf("logged %v, want nothing", logs.All())
	}
}

// TestEndingASessionIsTriedAgain goes wrong in every way, after which the session has what it had.
func TestEndingASessionIsTriedAgain(t *testing.T) {
	t.Parallel()
	server, s := newScripted(t), &runtest.Sink{}
	r, logs := heir(t, server, s)

	p := server.accept()
	p.send(&packets.Connack{ReasonCode: 0x97, Properties: &packets.Properties{}})

	p = server.resume(true)
	p.publish(1, 1, false, "t/a", "first")
	u := expect[*packets.Unsubscribe](p)
	p.expectAck(1)
	p.send(&packets.Unsuback{PacketID: u.PacketID, Reasons: []byte{notAuthorized}, Properties: &packets.Properties{}})

	p = server.resume(true)
	expect[*packets.Unsubscribe](p) // which is not answered
	for p.pongs() {
	}

	p = server.resume(true)
	p.expectUnsubscribed()
	p.pong(1000)
	_ = p.conn.Close()
	p = server.accept() // to end it
	_ = p.conn.Close()

	p = server.resume(true)
	p.expectUnsubscribed()
	p.pong(1000)
	_ = p.conn.Close()
	server.expectEnd()

	r.End()
	if s.Distinct() != 1 || len(s.Events()) != 1 {
		t.Errorf("events %v, want one", s.Data())
	}
	if l := logs.All(); len(l) != 2 || l[0].Level != zapcore.WarnLevel || l[1].Level != zapcore.InfoLevel {
		t.Errorf("logged %v, want one line about what goes wrong, and one about the end", l)
	}
	for len(r.Ready) > 0 {
		if err := <-r.Ready; err != nil {
			t.Errorf("ready(%v): the member itself is not concerned", err)
		}
	}
}

func TestASessionThatIsNotEmptyYetOutlivesTheHeir(t *testing.T) {
	t.Parallel()
	server := newScripted(t)
	r, _ := heir(t, server, &runtest.Sink{Refuse: func(string) error { return errors.New("away") }})
	p := server.resume(true)
	p.expectUnsubscribed()
	p.publish(1, 1, false, "t/a", "kept")
	p.pong(1)
	stopped := make(chan struct{})
	r.Stop()
	go func() { r.End(); close(stopped) }()
	for {
		packet := p.pong(1)
		if packet == nil {
			continue
		}
		if d, ok := packet.(*packets.Disconnect); !ok || d.Properties.SessionExpiryInterval != nil {
			t.Errorf("the client sent %s, want an end that leaves the session alone", packet)
		}
		break
	}
	_ = p.conn.Close()
	<-stopped
	_ = server.listener.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Millisecond))
	if conn, err := server.listener.Accept(); err == nil { // it would be here already
		_ = conn.Close()
		t.Error("the client connects once more, to end the session")
	}
}

func TestInherit(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, brokerOptions{})
			s, away := &runtest.Sink{}, &runtest.Sink{Refuse: func(string) error { return errors.New("away") }}
			formerly := start(t, asMember(b.options(version, 1), 9, plan.MaxMembers), away)
			formerly.AwaitReady(true)
			const n = 300
			for i := range n {
				b.send("t/a", fmt.Sprint(i), 1)
			}
			formerly.End()
			start(t, asMember(b.options(version, 1), 0, 1), s).AwaitReady(true)
			runtest.Eventually(t, "every message", func() bool { return s.Distinct() == n })
			runtest.Eventually(t, "the end of the session", func() bool {
				_, exists := b.server.Clients.Get(last)
				return !exists
			})
		})
	}
}

func TestLeave(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, brokerOptions{})
			o := asMember(b.options(version, 1), 9, plan.MaxMembers)
			s := &runtest.Sink{Refuse: func(string) error { return errors.New("away") }}
			r := start(t, o, s)
			r.AwaitReady(true)
			b.send("t/a", "waits", 1)
			r.End()
			quiet := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
			ctx, cancel := context.WithTimeout(quiet, time.Second)
			defer cancel()
			if err := New(o).Leave(ctx, s); err == nil || b.unacknowledged(last) != 1 {
				t.Errorf("Leave() = %v with %d messages left, want an error, and the message where it was", err, b.unacknowledged(last))
			}
			s.Refuse = nil
			if err := New(o).Leave(quiet, s); err != nil || s.Count("waits") != 1 {
				t.Errorf("Leave() = %v, and the message was taken %d times, want it once", err, s.Count("waits"))
			}
			runtest.Eventually(t, "the end of the session", func() bool {
				_, exists := b.server.Clients.Get(last)
				return !exists
			})
		})
	}
}

func TestASessionThatWaitsForSomebodyIsNotLeft(t *testing.T) {
	b := newBroker(t, brokerOptions{})
	r := start(t, b.options(5, 1), &runtest.Sink{})
	r.AwaitReady(true)
	r.End()
	if err := New(b.options(5, 1)).Leave(t.Context(), &runtest.Sink{}); err != nil {
		t.Errorf("Leave() = %v", err)
	}
	if _, exists := b.server.Clients.Get("client"); !exists {
		t.Error("the session is gone of a client id that somebody has chosen")
	}
}
