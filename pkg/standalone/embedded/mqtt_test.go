package embedded

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

func TestMQTTKeepsASessionAndAsksForThePasswordOfThePlan(t *testing.T) {
	s := New(Options{Dial: nowhere()})
	defer closed(t, s)
	started := add(t, s,
		Need{Kind: MQTT, Addresses: []string{"mosquitto.mqtt:1883"}, Username: "u", Password: "p"},
		Need{Kind: MQTT, Addresses: []string{"secure:8883"}, Elsewhere: true},
	)
	if len(started) != 1 {
		t.Fatalf("%d servers started, want 1: %v", len(started), started)
	}
	if _, err := mqttClient(t, started[0].Address, "reader", "wrong", nil); err == nil {
		t.Error("a client with a wrong password was let in")
	}

	const n = 1000 // more than a client says that it takes at once
	got := make(chan string, n)
	received := func(p paho.PublishReceived) (bool, error) {
		got <- string(p.Packet.Payload)
		return true, nil
	}
	reader, err := mqttClient(t, started[0].Address, "reader", "p", received)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "a/#", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	_ = reader.Disconnect(&paho.Disconnect{})
	writer, err := mqttClient(t, started[0].Address, "writer", "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if _, err := writer.Publish(t.Context(), &paho.Publish{Topic: "a/b", QoS: 1, Payload: []byte("hello")}); err != nil {
			t.Fatal(err)
		}
	}
	// The broker acknowledges a message before it gives it to subscribers; it answers the next packet after that.
	if _, err := writer.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{"nothing"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := mqttClient(t, started[0].Address, "reader", "p", received); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		select {
		case payload := <-got:
			if payload != "hello" {
				t.Errorf("message %q, want hello", payload)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%d messages, want %d", i, n)
		}
	}
}

// mqttClient connects as user u, with a session that is kept.
func mqttClient(t *testing.T, address, id, password string, received func(paho.PublishReceived) (bool, error)) (*paho.Client, error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	config := paho.ClientConfig{Conn: conn}
	if received != nil {
		config.OnPublishReceived = append(config.OnPublishReceived, received)
	}
	client := paho.NewClient(config)
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	hour := uint32(3600)
	_, err = client.Connect(ctx, &paho.Connect{
		ClientID: id, KeepAlive: 60, UsernameFlag: true, Username: "u", PasswordFlag: true, Password: []byte(password),
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &hour},
	})
	return client, err
}
