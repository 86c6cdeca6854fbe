// Package kafkaclient connects to Kafka as an EventSource or an EventBus says, and explains what keeps it from that.
package kafkaclient

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"github.com/openfunction/events/pkg/plan"
)

// Config returns the configuration of a client that makes its connections with dialer. What is particular to reading or writing is
// left to the caller. An error is one that only another access can cure.
func Config(access plan.KafkaAccess, clientID string, dialer *Dialer) (*sarama.Config, error) {
	secure, err := access.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if clientID == "" {
		clientID = "openfunction-events"
	}
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0 // what every broker from 2.8 to 4 speaks
	c.ClientID = clientID
	// The dialer secures what it dials, and sarama does not: so a handshake that fails has an address and a reason.
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, &transport{Dialer: dialer, access: access, tls: secure, patience: answerTimeout}
	c.Metadata.Full = false
	c.Metadata.Timeout = answerTimeout        // whoever uses the client asks again, and says why
	c.Metadata.AllowAutoTopicCreation = false // one who reads must not create, and one who writes says how many partitions
	if err := authenticate(c, access, dialer); err != nil {
		return nil, err
	}
	return c, c.Validate()
}

func authenticate(c *sarama.Config, access plan.KafkaAccess, dialer *Dialer) error {
	if access.SASLMechanism == "" {
		return nil
	}
	sasl := &c.Net.SASL
	sasl.Enable = true
	sasl.Mechanism = sarama.SASLMechanism(access.SASLMechanism)
	sasl.User, sasl.Password = access.Username, access.Password
	switch sasl.Mechanism {
	case sarama.SASLTypePlaintext:
	case sarama.SASLTypeSCRAMSHA256:
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA256} }
	case sarama.SASLTypeSCRAMSHA512:
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA512} }
	case sarama.SASLTypeOAuth:
		tokens, err := newTokens(access.OAuth, dialer)
		if err != nil {
			return err
		}
		sasl.TokenProvider = tokens
	default:
		return fmt.Errorf("SASL mechanism %q: want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", access.SASLMechanism)
	}
	return nil
}

// scramClient is one SCRAM conversation, in the shape that sarama wants.
type scramClient struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

// Begin starts the conversation.
func (c *scramClient) Begin(username, password, authzID string) error {
	client, err := c.hash.NewClient(username, password, authzID)
	if err != nil {
		return err
	}
	c.ClientConversation = client.NewConversation()
	return nil
}
