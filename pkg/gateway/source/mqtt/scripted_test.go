package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
)

// scripted is a server of version 5 that does what a test says.
type scripted struct {
	t        *testing.T
	listener net.Listener
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &scripted{t: t, listener: l}
}

func (s *scripted) options(qos byte) Options {
	return options("tcp://"+s.listener.Addr().String(), 5, qos)
}

// served is the server's end of one connection.
type served struct {
	t       *testing.T
	conn    net.Conn
	connect *packets.Connect
}

// accept waits for a client to connect and say so.
func (s *scripted) accept() *served {
	s.t.Helper()
	_ = s.listener.(*net.TCPListener).SetDeadline(time.Now().Add(runtest.Deadline))
	conn, err := s.listener.Accept()
	if err != nil {
		s.t.Fatalf("no client connects: %v", err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	p := &served{t: s.t, conn: conn}
	p.connect = expect[*packets.Connect](p)
	return p
}

// welcome accepts a client and its subscription.
func (s *scripted) welcome(sessionPresent bool, qos byte) *served {
	s.t.Helper()
	p := s.accept()
	p.send(&packets.Connack{SessionPresent: sessionPresent, Properties: &packets.Properties{}})
	sub := expect[*packets.Subscribe](p)
	p.send(&packets.Suback{PacketID: sub.PacketID, Reasons: []byte{qos}, Properties: &packets.Properties{}})
	return p
}

func (p *served) send(packet io.WriterTo) {
	p.t.Helper()
	if _, err := packet.WriteTo(p.conn); err != nil {
		p.t.Fatal(err)
	}
}

func (p *served) publish(id uint16, qos byte, duplicate bool, topic, payload string) {
	p.t.Helper()
	p.send(&packets.Publish{PacketID: id, QoS: qos, Duplicate: duplicate, Topic: topic, Payload: []byte(payload), Properties: &packets.Properties{}})
}

// expect returns the next packet but pings, which is a T.
func expect[T packets.Packet](p *served) T {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(runtest.Deadline))
	for {
		c, err := packets.ReadPacket(p.conn)
		if err != nil {
			p.t.Fatalf("want a %T: %v", *new(T), err)
		}
		if c.Type == packets.PINGREQ {
			continue
		}
		packet, ok := c.Content.(T)
		if !ok {
			p.t.Fatalf("the client sent %s, want a %T", c, *new(T))
		}
		return packet
	}
}

func (p *served) expectAck(id uint16) {
	p.t.Helper()
	if got := expect[*packets.Puback](p).PacketID; got != id {
		p.t.Fatalf("PUBACK of %d, want of %d", got, id)
	}
}

func (p *served) expectReceived(id uint16) {
	p.t.Helper()
	if got := expect[*packets.Pubrec](p).PacketID; got != id {
		p.t.Fatalf("PUBREC of %d, want of %d", got, id)
	}
}

func TestAcknowledgementsKeepTheOrderOfTheirMessages(t *testing.T) {
	server := newScripted(t)
	free := map[string]chan struct{}{"1": make(chan struct{}), "2": make(chan struct{}), "3": make(chan struct{})}
	s := &runtest.Sink{Refuse: func(data string) error { <-free[data]; return nil }}
	start(t, server.options(1), s)
	p := server.welcome(false, 1)
	for i := range uint16(3) {
		p.publish(i+1, 1, false, fmt.Sprint("t/", i+1), fmt.Sprint(i+1))
	}
	close(free["3"])
	s.Await(t, "3")
	close(free["2"])
	s.Await(t, "2")
	close(free["1"])
	p.expectAck(1)
	if s.Count("1") == 0 {
		t.Error("a message was acknowledged before it was taken")
	}
	p.expectAck(2)
	p.expectAck(3)
}

func TestAMessageOfQoS2IsHandedOnOnce(t *testing.T) {
	server, s := newScripted(t), &runtest.Sink{}
	start(t, server.options(2), s)
	p := server.welcome(false, 2)
	p.publish(7, 2, false, "t/a", "same")
	p.expectReceived(7)
	_ = p.conn.Close()

	p = server.welcome(true, 2)
	p.publish(7, 2, true, "t/a", "same")
	p.expectReceived(7)
	p.send(&packets.Pubrel{PacketID: 7, Properties: &packets.Properties{}})
	if got := expect[*packets.Pubcomp](p).PacketID; got != 7 {
		t.Errorf("PUBCOMP of %d, want of 7", got)
	}
	if got := s.Count("same"); got != 1 {
		t.Errorf("handed on %d times, want once", got)
	}
	p.publish(7, 2, false, "t/a", "same") // another message
	p.expectReceived(7)
	if got := s.Count("same"); got != 2 {
		t.Errorf("%d events of two messages, want 2", got)
	}
}

func TestWhatOnlyLooksLikeARepetitionIsHandedOn(t *testing.T) {
	for name, test := range map[string]struct {
		sessionPresent, duplicate bool
		payload                   string
		want                      int // events in all
	}{
		"a repetition":                     {true, true, "first", 1},
		"without the flag":                 {true, false, "first", 2},
		"another message under its number": {true, true, "second", 2},
		"another session":                  {false, true, "first", 2},
	} {
		t.Run(name, func(t *testing.T) {
			server, free := newScripted(t), make(chan struct{})
			s := &runtest.Sink{Refuse: func(string) error { <-free; return nil }}
			o := server.options(1)
			o.Source.MQTT.Topic = "#"
			start(t, o, s)
			p := server.welcome(false, 1)
			p.publish(1, 1, false, "a", "first")
			p.publish(2, 1, false, "b", "other")
			_ = p.conn.Close()

			p = server.welcome(test.sessionPresent, 1)
			p.publish(1, 1, test.duplicate, "a", test.payload)
			p.publish(2, 1, true, "b", "other")
			close(free)
			p.expectAck(1)
			p.expectAck(2)
			want := test.want + 1
			if !test.sessionPresent {
				want++
			}
			runtest.Eventually(t, fmt.Sprintf("%d events", want), func() bool { return len(s.Events()) >= want })
			if got := len(s.Events()); got != want {
				t.Errorf("%d events, want %d", got, want)
			}
		})
	}
}

func TestConnectAndSubscribe(t *testing.T) {
	for name, test := range map[string]struct {
		change         func(*plan.MQTT)
		clientID       string
		clean          bool
		expiry         uint32
		filter         string
		user, password string
	}{
		"session": {func(*plan.MQTT) {}, "client", false, 604800, "t/#", "", ""},
		"clean":   {func(m *plan.MQTT) { m.CleanSession = true }, "client", true, 0, "t/#", "", ""},
		"group":   {func(m *plan.MQTT) { m.Group = "g" }, "client-3f585161", false, 604800, "$share/g/t/#", "", ""},
		"member":  {func(m *plan.MQTT) { m.Group, m.Members, m.Member = "g", 3, 2 }, "client-e42e2fc8-2", false, 604800, "$share/g/t/#", "", ""},
		"user":    {func(m *plan.MQTT) { m.Username, m.Password = "u", "p" }, "client", false, 604800, "t/#", "u", "p"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newScripted(t)
			o := server.options(1)
			test.change(o.Source.MQTT)
			start(t, o, &runtest.Sink{})
			p := server.accept()
			c := p.connect
			if c.ClientID != test.clientID || c.CleanStart != test.clean || *c.Properties.SessionExpiryInterval != test.expiry ||
				*c.Properties.ReceiveMaximum != receiveMaximum || c.Username != test.user || string(c.Password) != test.password {
				t.Errorf("the client sent %s, want %+v", c, test)
			}
			p.send(&packets.Connack{Properties: &packets.Properties{}})
			sub := expect[*packets.Subscribe](p)
			if got, want := sub.Subscriptions[0], (packets.SubOptions{Topic: test.filter, QoS: 1, RetainHandling: packets.RetainSendOnSubscribeIfNew}); got != want {
				t.Errorf("subscribed to %+v, want %+v", got, want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	refuse := func(code byte) func(*served) {
		return func(p *served) {
			p.send(&packets.Connack{ReasonCode: code, Properties: &packets.Properties{ReasonString: "so there"}})
		}
	}
	grant := func(code byte) func(*served) {
		return func(p *served) {
			p.send(&packets.Connack{Properties: &packets.Properties{}})
			p.send(&packets.Suback{PacketID: expect[*packets.Subscribe](p).PacketID, Reasons: []byte{code}, Properties: &packets.Properties{}})
		}
	}
	for name, test := range map[string]struct {
		answer func(*served)
		want   string // after the address; empty: messages come
	}{
		"client id":       {refuse(clientIDRefused), `the server refuses the client id "client" (it says: "so there"): set another consumerID`},
		"version":         {refuse(unsupportedVersion), `the server does not speak MQTT 5 (it says: "so there"): set version: "3.1.1"`},
		"banned":          {refuse(banned), `the server has banned this client (it says: "so there"): lift that there`},
		"busy":            {refuse(0x89), `the server refuses the connection with reason 0x89 (it says: "so there")`},
		"old server":      {func(p *served) { _, _ = p.conn.Write([]byte{0x20, 2, 0, 1}) }, `the server does not speak MQTT 5: set version: "3.1.1"`},
		"old and willing": {func(p *served) { _, _ = p.conn.Write([]byte{0x20, 2, 0, 0}) }, `the server does not speak MQTT 5: set version: "3.1.1"`},
		"silent":          {func(p *served) { _ = p.conn.Close() }, `the server ends the connection without an answer: if it wants TLS, use ssl:// in url; if it does not speak MQTT 5, set version: "3.1.1"; if it is not an MQTT server, correct url`},
		"topic":           {grant(notAuthorized), `the server does not let user "" subscribe to t/#: allow it there, or correct topic`},
		"filter":          {grant(filterRefused), `the server refuses the topic filter t/#: correct topic`},
		"wildcards":       {grant(noWildcards), `the server takes no wildcards: set a topic without + and #`},
		"sharing":         {grant(noSharing), `the server does not share subscriptions: remove group`},
		"quota":           {grant(0x97), `the server refuses the subscription to t/# with reason 0x97`},
		"QoS 0":           {grant(0), `the server grants only QoS 0 for t/#, at which messages are lost: allow more there, or accept that with qos: 0`},
		"QoS 1":           {grant(1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := newScripted(t)
			r := start(t, server.options(2), &runtest.Sink{})
			test.answer(server.accept())
			if test.want == "" {
				r.AwaitReady(true)
				return
			}
			if got, want := r.AwaitReady(false).Error(), "mqtt "+server.listener.Addr().String()+": "+test.want; got != want {
				t.Errorf("ready(%s)\nwant  %s", got, want)
			}
		})
	}
}

// A message that would take all memory is not read, and stays with the server: reading it once more after a restart would end the same way.
func TestAPacketThatIsTooLargeIsNotRead(t *testing.T) {
	for _, version := range []protocol{v5{}, v3{}} {
		for bytes, want := range map[string]string{
			"\xd0\x00":                 "",
			"\x20\x80\x80\x10":         "the server sent what is not MQTT: an answer of 262144 bytes",
			"\x90\xff\xff\xff\x7f":     "the server sent what is not MQTT: an answer of 268435455 bytes",
			"\x30\x81\x80\x80\x10":     "a packet of 33554433 bytes",
			"\x30\xff\xff\xff\x7f":     "a packet of 268435455 bytes",
			"\x30\xff\xff\xff\xff\x01": "the server sent what is not MQTT: a packet without an end to its length",
			"\x30":                     "EOF",
		} {
			c := &connection{protocol: version, reader: bufio.NewReader(strings.NewReader(bytes))}
			_, err := c.receive()
			if got := fmt.Sprint(err); want != "" && got != want || want == "" && err != nil {
				t.Errorf("%T: receive of %x: %v, want %q", version, bytes, err, want)
			}
		}
	}
}

func TestASessionThatIsTakenOverIsNotFoughtFor(t *testing.T) {
	server := newScripted(t)
	r := start(t, server.options(1), &runtest.Sink{})
	p := server.welcome(false, 1)
	r.AwaitReady(true)
	p.send(&packets.Disconnect{ReasonCode: sessionTakenOver, Properties: &packets.Properties{}})
	err := r.AwaitReady(false)
	want := fmt.Sprintf("mqtt %s: another client connected with the client id \"client\": give each its own consumerID, or set group to share the messages",
		server.listener.Addr())
	if err.Error() != want {
		t.Errorf("ready(%v)\nwant  %s", err, want)
	}
	if got := pause(err); got != takenOverWait {
		t.Errorf("it waits for %s, want %s", got, takenOverWait)
	}
}

func TestAQuarrelIsSaidOnce(t *testing.T) {
	server := newScripted(t)
	core, logs := observer.New(zapcore.InfoLevel)
	r := startLogged(t, server.options(1), &runtest.Sink{}, zap.New(core).Sugar())
	for range quarrelsome + 2 {
		p := server.welcome(true, 1)
		r.AwaitReady(true)
		_ = p.conn.Close()
		r.AwaitReady(false)
	}
	hints := 0
	for _, l := range logs.All() {
		if strings.Contains(fmt.Sprint(l.ContextMap()["error"]), `another client may use the client id "client"`) {
			hints++
		}
	}
	if hints != 1 || logs.Len() != 2*quarrelsome-1 {
		t.Errorf("%d lines with %d hints, want %d with 1: %v", logs.Len(), hints, 2*quarrelsome-1, logs.All())
	}
}

func TestASubscriptionThatTheSessionHadBeforeEndsInNothing(t *testing.T) {
	server, s := newScripted(t), &runtest.Sink{}
	start(t, server.options(1), s)
	p := server.welcome(true, 1)
	foreign := 3
	publish := func(id uint16, topic, payload string, identifier *int) {
		p.send(&packets.Publish{PacketID: id, QoS: 1, Topic: topic, Payload: []byte(payload), Properties: &packets.Properties{SubscriptionIdentifier: identifier}})
	}
	ours := identifier("t/#")
	publish(1, "former", "dropped", &foreign)
	publish(2, "t/a", "of both", &foreign)
	publish(3, "rewritten", "of ours", &ours)
	publish(4, "whatever", "of an old broker", nil)
	for id := range uint16(4) {
		p.expectAck(id + 1)
	}
	if s.Count("dropped") > 0 || s.Distinct() != 3 {
		t.Errorf("events %v, want all but the dropped one", s.Data())
	}
}

func TestASourceThatStopsTakesNothingMoreAndKeepsItsSession(t *testing.T) {
	server := newScripted(t)
	began, free := make(chan struct{}), make(chan struct{})
	s := &runtest.Sink{Refuse: func(string) error { began <- struct{}{}; <-free; return nil }}
	r := start(t, server.options(1), s)
	p := server.welcome(false, 1)
	p.publish(1, 1, false, "t/a", "in flight")
	<-began
	stopping := make(chan struct{})
	r.Stop()
	go func() { r.End(); close(stopping) }()
	p.publish(2, 1, false, "t/a", "too late")
	close(free)
	p.expectAck(1)
	d := expect[*packets.Disconnect](p)
	if d.ReasonCode != 0 || d.Properties.SessionExpiryInterval != nil {
		t.Errorf("the client sent %s, want a normal end that leaves the session alone", d)
	}
	_ = p.conn.Close()
	<-stopping
	if s.Count("too late") > 0 {
		t.Error("took a message after the end")
	}
}

func TestAHandlerThatNeverReturnsIsCutOff(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokerOptions{})
	s := &runtest.Sink{Refuse: func(string) error { return errors.New("away") }}
	r := start(t, b.options(5, 1), s)
	r.AwaitReady(true)
	b.send("t/a", "kept", 1)
	runtest.Eventually(t, "a message under way", func() bool { return b.unacknowledged("client") == 1 })
	r.End()
	if got := b.unacknowledged("client"); got != 1 {
		t.Errorf("the broker has %d messages left, want 1", got)
	}
}
