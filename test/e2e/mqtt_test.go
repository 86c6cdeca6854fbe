//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/openfunction/events/test/servers"
)

const mqttTrigger = `
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: readings}
spec:
  inputs: {reading: {eventSource: sensors, event: reading}}
  subscribers:
  - condition: reading
    sink: {ref: {apiVersion: v1, kind: Service, name: thermostat}}
`

// TestE2EMQTT runs the example of the documentation: with mosquitto, which first has another password, and with the broker that --embedded
// starts. The cron event beside it flows all the while.
func TestE2EMQTT(t *testing.T) {
	const address, password = "mosquitto.mqtt:1883", "change-me"
	t.Run("mosquitto", func(t *testing.T) {
		m := servers.Mosquitto(t)
		m.SetPassword("events", "another")
		s, ticks := newSink(t), newSink(t)
		p := runMQTT(t, s, ticks, "--address", address+"="+m.Users)
		eventually(t, 60*time.Second, "the refusal is said", func() error {
			if p.find(`(EventSource default/sensors mqtt event reading.*correct username and passwordFrom)`) == "" {
				return fmt.Errorf("the log says:\n%s", p.log())
			}
			return nil
		})
		before := len(ticks.received())
		eventually(t, 60*time.Second, "ticks of another source", func() error {
			if got := len(ticks.received()); got < before+3 {
				return fmt.Errorf("%d after %d", got, before)
			}
			return nil
		})
		if got := strings.Count(p.log(), "mqtt messages do not come"); got != 1 {
			t.Errorf("the log says %d times that no messages come, want once:\n%s", got, p.log())
		}
		m.SetPassword("events", password)
		eventually(t, 60*time.Second, "messages come", func() error {
			if p.find(`(mqtt messages come again)`) == "" {
				return fmt.Errorf("the log says:\n%s", p.log())
			}
			return nil
		})
		readings(t, p, s, m.Publisher())
	})
	t.Run("embedded", func(t *testing.T) {
		s := newSink(t)
		p := runMQTT(t, s, newSink(t), "--embedded")
		publisher := &servers.MQTTPublisher{
			Address: p.find(`embedded mqtt stands for ` + address + ` at (\S+)`), Username: "events", Password: password,
		}
		t.Cleanup(publisher.Close)
		eventually(t, 60*time.Second, "the session", func() error { // what nobody subscribes to goes nowhere
			publisher.Publish(t, &paho.Publish{Topic: "sensors/probe/temperature", QoS: 1, Payload: []byte("0")})
			if len(s.received()) == 0 {
				return fmt.Errorf("the log says:\n%s", p.log())
			}
			return nil
		})
		readings(t, p, s, publisher)
	})
}

const beside = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: beside}
spec:
  cron: {tick: {schedule: "@every 1s"}}
  sink: {ref: {apiVersion: v1, kind: Service, name: clock}}
`

func runMQTT(t *testing.T, s, ticks *sink, args ...string) *process {
	t.Helper()
	return run(t, append(args, "-f", "../../docs/examples/eventsource-mqtt.yaml", "-f", write(t, "trigger.yaml", mqttTrigger),
		"-f", write(t, "beside.yaml", beside), "--sink", "default/thermostat="+s.URL, "--sink", "default/clock="+ticks.URL)...)
}

// readings publishes some, wants them at the sink, and ends the program.
func readings(t *testing.T, p *process, s *sink, publisher *servers.MQTTPublisher) {
	t.Helper()
	values := []string{unique("1"), unique("2"), unique("3")}
	for _, v := range values {
		publisher.Publish(t, &paho.Publish{Topic: "sensors/attic/temperature", QoS: 1, Payload: []byte(v)})
	}
	wantBodies(t, 30*time.Second, "the sink", s.received, values...)
	for _, e := range s.received() {
		if e.Type() != "io.openfunction.events.mqtt" || e.Source() != "/namespaces/default/eventsources/sensors/reading" ||
			e.Extensions()["mqtttopic"] != e.Subject() {
			t.Errorf("event %s, want one of the kind mqtt with its topic", e)
		}
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}
