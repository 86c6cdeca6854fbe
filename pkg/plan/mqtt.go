package plan

import (
	"cmp"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

func mqttSource(r *reader, path string, s *Source, spec *v1alpha1.MQTTSpec) *MQTT {
	spec = cmp.Or(spec, &v1alpha1.MQTTSpec{})
	m := &MQTT{
		URL:          spec.URL,
		Topic:        spec.Topic,
		Version:      5,
		Group:        spec.Group,
		ClientID:     value(spec.ConsumerID, v1alpha1.DefaultConsumer(s.Namespace, s.EventSource, s.Kind, s.Event)),
		QOS:          byte(value(spec.QOS, 1)),
		CleanSession: value(spec.CleanSession, false),
		Username:     r.secret(path+".usernameFrom", spec.UsernameFrom, spec.Username),
		Password:     r.secret(path+".passwordFrom", spec.PasswordFrom, nil),
	}
	if spec.Version == "3.1.1" {
		m.Version = 3
	}
	t := TLS{
		CACerts: r.secret(path+".caCertFrom", spec.CACertFrom, spec.CACert),
		Cert:    r.secret(path+".clientCertFrom", spec.ClientCertFrom, spec.ClientCert),
		Key:     r.secret(path+".clientKeyFrom", spec.ClientKeyFrom, spec.ClientKey),
	}
	if t != (TLS{}) {
		m.TLS = r.checked(path, &t, spec.CACertFrom, spec.ClientCertFrom, spec.ClientKeyFrom)
	}
	return m
}
