package mqtt

import (
	"bufio"
	"fmt"
	"io"

	"github.com/eclipse/paho.golang/packets"
)

// v5 is version 5 of the protocol.
type v5 struct{}

func (v5) write(w io.Writer, packet any) error {
	var p io.WriterTo
	switch q := packet.(type) {
	case connect:
		p = &packets.Connect{
			ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: q.clientID, CleanStart: q.clean, KeepAlive: q.keepAlive,
			UsernameFlag: q.username != "", Username: q.username, PasswordFlag: q.password != "", Password: []byte(q.password),
			Properties: &packets.Properties{SessionExpiryInterval: &q.sessionExpiry, ReceiveMaximum: &q.receiveMaximum},
		}
	case subscribe:
		properties := &packets.Properties{}
		if q.identifier != 0 {
			properties.SubscriptionIdentifier = &q.identifier
		}
		option := packets.SubOptions{Topic: q.filter, QoS: q.qos, RetainHandling: packets.RetainSendOnSubscribeIfNew}
		p = &packets.Subscribe{PacketID: q.id, Properties: properties, Subscriptions: []packets.SubOptions{option}}
	case unsubscribe:
		p = &packets.Unsubscribe{PacketID: q.id, Properties: &packets.Properties{}, Topics: []string{q.filter}}
	case puback:
		p = &packets.Puback{PacketID: q.id, Properties: &packets.Properties{}}
	case pubrec:
		p = &packets.Pubrec{PacketID: q.id, Properties: &packets.Properties{}}
	case pubcomp:
		p = &packets.Pubcomp{PacketID: q.id, Properties: &packets.Properties{}}
	case pingreq:
		p = &packets.Pingreq{}
	case disconnect:
		p = &packets.Disconnect{Properties: &packets.Properties{}}
	default:
		return fmt.Errorf("packet %T is not sent", packet)
	}
	_, err := p.WriteTo(w)
	return err
}

func (v5) read(r *bufio.Reader) (any, error) {
	// A server that knows no version 5 refuses in the form of its own, which is shorter.
	if head, err := r.Peek(2); err == nil && head[0]>>4 == packets.CONNACK && head[1] == 2 {
		answer, err := v3{}.read(r)
		if c, ok := answer.(connack); ok && c.code == 0 {
			return connack{code: unsupportedVersion}, err
		}
		return answer, err
	}
	c, err := packets.ReadPacket(r)
	if err != nil {
		return nil, err
	}
	switch p := c.Content.(type) {
	case *packets.Connack:
		return readConnack(p), nil
	case *packets.Suback:
		if len(p.Reasons) != 1 {
			return nil, fmt.Errorf("%d answers to one subscription", len(p.Reasons))
		}
		return suback{code: p.Reasons[0], reason: p.Properties.ReasonString}, nil
	case *packets.Unsuback:
		if len(p.Reasons) != 1 {
			return nil, fmt.Errorf("%d answers to the end of one subscription", len(p.Reasons))
		}
		return unsuback{code: p.Reasons[0]}, nil
	case *packets.Publish:
		return readPublish(p), nil
	case *packets.Pubrel:
		return pubrel{p.PacketID}, nil
	case *packets.Pingresp:
		return pingresp{}, nil
	case *packets.Disconnect:
		return disconnect{code: p.ReasonCode, reason: p.Properties.ReasonString}, nil
	}
	return nil, fmt.Errorf("packet %s was not expected", c.PacketType())
}

func readConnack(p *packets.Connack) connack {
	a := connack{code: p.ReasonCode, reason: p.Properties.ReasonString, sessionPresent: p.SessionPresent, sessionExpiry: sessionExpiry}
	if k := p.Properties.ServerKeepAlive; k != nil {
		a.keepAlive = *k
	}
	if x := p.Properties.SessionExpiryInterval; x != nil {
		a.sessionExpiry = *x
	}
	if s := p.Properties.SubIDAvailable; s != nil {
		a.noIdentifiers = *s == 0
	}
	return a
}

func readPublish(p *packets.Publish) *message {
	m := &message{
		id: p.PacketID, qos: p.QoS, duplicate: p.Duplicate, retain: p.Retain, topic: p.Topic, payload: p.Payload,
		contentType: p.Properties.ContentType, responseTopic: p.Properties.ResponseTopic, correlationData: p.Properties.CorrelationData,
	}
	if i := p.Properties.SubscriptionIdentifier; i != nil {
		m.identifier = *i
	}
	for _, u := range p.Properties.User {
		m.properties = append(m.properties, property{u.Key, u.Value})
	}
	return m
}
