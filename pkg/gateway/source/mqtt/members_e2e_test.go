//go:build e2e

package mqtt

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/test/servers"
)

// member is one of a group, whose process can die.
type member struct {
	*runtest.Running
	sink *runtest.Sink
	wire *network
	logs *observer.ObservedLogs
	dead atomic.Bool
}

func startMember(t *testing.T, o Options) *member {
	t.Helper()
	m := &member{wire: &network{}}
	m.sink = &runtest.Sink{Refuse: func(string) error {
		if m.dead.Load() {
			return errors.New("dead")
		}
		return nil
	}}
	o.Dial = m.wire.dial
	var core zapcore.Core
	core, m.logs = observer.New(zapcore.InfoLevel)
	m.Running = startLogged(t, o, m.sink, zap.New(core).Sugar())
	m.AwaitReady(true)
	return m
}

// die ends the member as kill -9 does: it takes nothing more, and the broker hears nothing.
func (m *member) die() {
	m.dead.Store(true)
	m.Stop()
	m.wire.cut()
	m.End()
}

// TestE2EMembers has three members of a group. While messages are published one dies and comes back, and one goes for good, dying too: the
// broker goes on to keep a share for it, until the first member counts two.
func TestE2EMembers(t *testing.T) {
	m := servers.Mosquitto(t)
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 3000
			topic := fmt.Sprint("members/", topics.Add(1))
			of := func(member, members int) Options {
				o := asMember(options("tcp://"+m.Open, version, 1), member, members)
				o.Source.MQTT.Topic, o.Source.MQTT.ClientID, o.pause = topic, topic, 0
				return o
			}
			var sinks []*runtest.Sink
			run := func(n, members int) *member {
				t.Helper()
				m := startMember(t, of(n, members))
				sinks = append(sinks, m.sink)
				return m
			}
			first, second, third := run(0, 3), run(1, 3), run(2, 3)

			var published atomic.Int64
			go func() {
				publisher := m.Publisher()
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for i := range n {
					publisher.Publish(t, &paho.Publish{Topic: topic, QoS: 1, Payload: fmt.Append(nil, i)})
					if published.Add(1)%50 == 0 {
						<-tick.C
					}
				}
			}()
			until := func(count int64) {
				t.Helper()
				runtest.Eventually(t, fmt.Sprint(count, " messages"), func() bool { return published.Load() >= count })
			}
			until(n / 4)
			runtest.Eventually(t, "messages for each", func() bool {
				return first.sink.Distinct() > 0 && second.sink.Distinct() > 0 && third.sink.Distinct() > 0
			})
			second.die()
			until(n / 2)
			run(1, 3)
			third.die()
			until(3 * n / 4)
			if !hasSession(t, of(2, 3)) {
				t.Error("the broker has no session of the member that is gone: there is nothing to see here")
			}
			waiting := total(sinks)
			first.End()
			first = run(0, 2)
			runtest.Eventually(t, "every message", func() bool { return total(sinks) == n })
			runtest.Eventually(t, "the end of the session", func() bool {
				return first.logs.FilterMessage("the session of a member that is no more is ended").Len() > 0
			})
			if hasSession(t, of(2, 3)) {
				t.Error("the broker keeps the session of the member that is gone")
			}
			if !hasSession(t, of(1, 3)) {
				t.Error("the session of a member is gone that is there")
			}
			taken := 0
			for _, s := range sinks {
				taken += len(s.Events())
			}
			t.Logf("%d messages, 0 lost, %d repeated; %d were taken while nobody took those of the member that is gone", n, taken-n, waiting)
		})
	}
}

// hasSession tells whether the broker keeps a session of a member. It does not change that, but takes the session from who has it.
func hasSession(t *testing.T, o Options) bool {
	t.Helper()
	m := o.Source.MQTT
	s := New(o)
	server, err := newEndpoint(m)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{Source: s, mqtt: m, server: server, protocol: v5{}, clientID: s.memberID(m.Member), log: zap.NewNop().Sugar()}
	if m.Version == 3 {
		r.protocol = v3{}
	}
	c, answer, err := r.connect(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	c.part()
	if !answer.sessionPresent { // there is one since
		if c, _, err = r.connect(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		c.part()
	}
	return answer.sessionPresent
}
