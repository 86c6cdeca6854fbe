package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/google/uuid"
)

// MQTTPublisher publishes to a broker as a client of version 5. It connects when there is something to publish, and again when it has
// lost its connection. It is safe for concurrent use.
type MQTTPublisher struct {
	// Address is host:port of a listener without TLS.
	Address string
	// Username and Password are shown if Username is set.
	Username, Password string

	mu     sync.Mutex
	client *paho.Client
}

// Publish returns once the server has the messages, in their order. One whose fate is unknown is published again.
func (p *MQTTPublisher) Publish(t testing.TB, messages ...*paho.Publish) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range messages {
		if err := p.publish(m); err != nil {
			t.Fatalf("publish to %s at %s: %v", m.Topic, p.Address, err)
		}
	}
}

// Close ends the connection.
func (p *MQTTPublisher) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave()
}

func (p *MQTTPublisher) publish(m *paho.Publish) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		err := p.try(m)
		if err == nil {
			return nil
		}
		p.leave()
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (p *MQTTPublisher) leave() {
	if p.client != nil {
		_ = p.client.Disconnect(&paho.Disconnect{})
		<-p.client.Done()
	}
	p.client = nil
}

func (p *MQTTPublisher) try(m *paho.Publish) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if p.client == nil {
		if err := p.connect(ctx); err != nil {
			return err
		}
	}
	lost := p.client.Done()
	go func() { // it does not notice by itself that nobody will answer
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	copied := *m // the client writes into it
	_, err := p.client.Publish(ctx, &copied)
	return err
}

func (p *MQTTPublisher) connect(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return err
	}
	client := paho.NewClient(paho.ClientConfig{Conn: conn})
	hello := &paho.Connect{ClientID: "publisher-" + uuid.NewString(), CleanStart: true, KeepAlive: 60}
	if p.Username != "" {
		hello.UsernameFlag, hello.Username, hello.PasswordFlag, hello.Password = true, p.Username, true, []byte(p.Password)
	}
	answer, err := client.Connect(ctx, hello)
	if answer != nil && answer.ReasonCode != 0 {
		err = errors.Join(err, fmt.Errorf("connect: reason 0x%02x", answer.ReasonCode))
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	p.client = client
	return nil
}
