package mqtt

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// way is how a source of the conformance suite speaks to its broker.
type way struct {
	version int
	qos     byte
	group   string
}

func (w way) String() string {
	if w.group != "" {
		return fmt.Sprintf("version %d, QoS %d, group", w.version, w.qos)
	}
	return fmt.Sprintf("version %d, QoS %d", w.version, w.qos)
}

var topics atomic.Int64

// fixture is what the conformance suite needs. base says where the broker is; all processes of a topic have one session.
func fixture(w way, base plan.MQTT, publisher *servers.MQTTPublisher) sourcetest.Fixture {
	f := sourcetest.Fixture{
		Kind:   "mqtt",
		Origin: func(testing.TB) string { return fmt.Sprint("suite/", topics.Add(1)) },
		New: func(_ testing.TB, p sourcetest.Process) source.Source {
			m := base
			m.Topic, m.Version, m.QOS, m.Group, m.ClientID = p.Origin, w.version, w.qos, w.group, "client of "+p.Origin
			if p.Wrong {
				m.Password = sourcetest.WrongSecret
			}
			p.Source.MQTT = &m
			return New(Options{Source: p.Source, Dial: p.Dial, Instance: "0"})
		},
		Produce: func(t testing.TB, topic string, data ...[]byte) {
			t.Helper()
			for _, d := range data {
				publisher.Publish(t, &paho.Publish{Topic: topic, QoS: w.qos, Payload: d})
			}
		},
		ProduceEvent: func(t testing.TB, topic string, e *event.Event) {
			t.Helper()
			properties := &paho.PublishProperties{ContentType: e.DataContentType()}
			event.EachAttribute(e, func(name, value string) { properties.User.Add(name, value) })
			publisher.Publish(t, &paho.Publish{Topic: topic, QoS: w.qos, Payload: e.Data(), Properties: properties})
		},
		AtLeastOnce: w.qos > 0,
		Ordered:     w.group == "",
		Refusal:     []string{"mqtt ", `the user name "reader" or its password`, "username", "passwordFrom"},
	}
	if w.version == 3 {
		f.ProduceEvent = func(t testing.TB, topic string, e *event.Event) {
			t.Helper()
			body, err := event.Structured(e)
			if err != nil {
				t.Fatal(err)
			}
			f.Produce(t, topic, body)
		}
	}
	return f
}

func TestConformance(t *testing.T) {
	for _, w := range []way{{5, 0, ""}, {5, 2, ""}, {3, 0, ""}, {3, 1, ""}, {5, 1, "group"}} {
		t.Run(w.String(), func(t *testing.T) {
			o := brokerOptions{users: map[string]string{"reader": "secret"}}
			b := newBroker(t, o)
			f := fixture(w, plan.MQTT{URL: "tcp://" + b.addr, Username: "reader", Password: "secret"}, nil)
			b.produce(&f, w)
			f.Stop = func(testing.TB) { _ = b.server.Close() }
			f.Start = func(testing.TB) { b.serve(o) }
			sourcetest.Run(t, f)
		})
	}
}

// produce makes f publish within the broker. To a client the broker acknowledges a message before it has it for anybody, and loses it for
// who connects between the two.
func (b *broker) produce(f *sourcetest.Fixture, w way) {
	f.Produce = func(t testing.TB, topic string, data ...[]byte) {
		t.Helper()
		for _, d := range data {
			b.publish(packets.Packet{FixedHeader: packets.FixedHeader{Qos: w.qos}, TopicName: topic, Payload: d})
		}
	}
	f.ProduceEvent = func(t testing.TB, topic string, e *event.Event) {
		t.Helper()
		if w.version == 3 {
			body, err := event.Structured(e)
			if err != nil {
				t.Fatal(err)
			}
			f.Produce(t, topic, body)
			return
		}
		p := packets.Packet{FixedHeader: packets.FixedHeader{Qos: w.qos}, TopicName: topic, Payload: e.Data()}
		p.Properties.ContentType = e.DataContentType()
		event.EachAttribute(e, func(name, value string) {
			p.Properties.User = append(p.Properties.User, packets.UserProperty{Key: name, Val: value})
		})
		b.publish(p)
	}
}
