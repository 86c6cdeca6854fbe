package mqtt

import (
	"bufio"
	"fmt"
	"io"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// v3 is version 3.1.1 of the protocol.
type v3 struct{}

func (v3) write(w io.Writer, packet any) error {
	var p packets.ControlPacket
	switch q := packet.(type) {
	case connect:
		c := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
		c.ProtocolName, c.ProtocolVersion, c.ClientIdentifier = "MQTT", 4, q.clientID
		c.CleanSession, c.Keepalive = q.clean, q.keepAlive
		c.UsernameFlag, c.Username = q.username != "", q.username
		c.PasswordFlag, c.Password = q.password != "", []byte(q.password)
		p = c
	case subscribe:
		s := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
		s.MessageID, s.Topics, s.Qoss = q.id, []string{q.filter}, []byte{q.qos}
		p = s
	case unsubscribe:
		u := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
		u.MessageID, u.Topics = q.id, []string{q.filter}
		p = u
	case puback:
		a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		a.MessageID = q.id
		p = a
	case pubrec:
		a := packets.NewControlPacket(packets.Pubrec).(*packets.PubrecPacket)
		a.MessageID = q.id
		p = a
	case pubcomp:
		a := packets.NewControlPacket(packets.Pubcomp).(*packets.PubcompPacket)
		a.MessageID = q.id
		p = a
	case pingreq:
		p = packets.NewControlPacket(packets.Pingreq)
	case disconnect:
		p = packets.NewControlPacket(packets.Disconnect)
	default:
		return fmt.Errorf("packet %T is not sent", packet)
	}
	return p.Write(w)
}

// refusals are the answers to CONNECT as version 5 calls them.
var refusals = map[byte]byte{
	packets.Accepted:                        0,
	packets.ErrRefusedBadProtocolVersion:    unsupportedVersion,
	packets.ErrRefusedIDRejected:            clientIDRefused,
	packets.ErrRefusedServerUnavailable:     unavailable,
	packets.ErrRefusedBadUsernameOrPassword: badCredentials,
	packets.ErrRefusedNotAuthorised:         notAuthorized,
}

func (v3) read(r *bufio.Reader) (any, error) {
	c, err := packets.ReadPacket(r)
	if err != nil {
		return nil, err
	}
	switch p := c.(type) {
	case *packets.ConnackPacket:
		code, ok := refusals[p.ReturnCode]
		if !ok {
			code = unspecified
		}
		return connack{code: code, sessionPresent: p.SessionPresent, sessionExpiry: sessionExpiry, noIdentifiers: true}, nil
	case *packets.SubackPacket:
		if len(p.ReturnCodes) != 1 {
			return nil, fmt.Errorf("%d answers to one subscription", len(p.ReturnCodes))
		}
		return suback{code: p.ReturnCodes[0]}, nil
	case *packets.UnsubackPacket:
		return unsuback{}, nil
	case *packets.PublishPacket:
		return &message{
			id: p.MessageID, qos: p.Qos, duplicate: p.Dup, retain: p.Retain, topic: p.TopicName, payload: p.Payload,
		}, nil
	case *packets.PubrelPacket:
		return pubrel{p.MessageID}, nil
	case *packets.PingrespPacket:
		return pingresp{}, nil
	}
	return nil, fmt.Errorf("packet %s was not expected", c)
}
