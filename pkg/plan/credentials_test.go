package plan_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// keyRef is what points at a value in a Secret.
var keyRef = reflect.TypeFor[*v1alpha1.SecretKeyRef]()

// below is the path of a field: that of its struct where it is embedded.
func below(path string, f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return path
	}
	return path + "." + name
}

// plant makes every reference to a Secret in the parts that v has lead to the key that is its path, without the names of events.
func plant(v reflect.Value, path string) {
	switch {
	case v.Type() == keyRef:
		v.Set(reflect.ValueOf(&v1alpha1.SecretKeyRef{Name: "s", Key: path}))
	case v.Kind() == reflect.Pointer && !v.IsNil():
		plant(v.Elem(), path)
	case v.Kind() == reflect.Struct && ours(v.Type()):
		for i := range v.NumField() {
			plant(v.Field(i), below(path, v.Type().Field(i)))
		}
	case v.Kind() == reflect.Map && ours(v.Type().Elem()):
		for _, key := range v.MapKeys() {
			plant(v.MapIndex(key), path)
		}
	case v.Kind() == reflect.Slice && ours(v.Type().Elem()):
		for i := range v.Len() {
			plant(v.Index(i), path)
		}
	}
}

// references are the paths of all references to a Secret that a type has.
func references(t reflect.Type, path string) []string {
	var all []string
	switch {
	case t == keyRef:
		return []string{path}
	case t.Kind() == reflect.Struct && ours(t):
		for i := range t.NumField() {
			all = append(all, references(t.Field(i).Type, below(path, t.Field(i)))...)
		}
	case slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Map, reflect.Slice}, t.Kind()):
		return references(t.Elem(), path)
	}
	return all
}

// ours tells whether a type, or what it points at, is one of the API's.
func ours(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return strings.HasPrefix(t.PkgPath(), "github.com/openfunction/events/")
}

// everyWay declares every way to have credentials, each by itself where they exclude each other. What refers to a Secret is planted.
const everyWay = `
{kind: EventBus, metadata: {name: stan}, spec: {natsStreaming: {natsURL: "nats://n:1", natsStreamingClusterID: stan, tls: {}}}}
---
{kind: EventBus, metadata: {name: js}, spec: {jetStream: {url: "nats://n:1", tls: {}}}}
---
{kind: ClusterEventBus, metadata: {name: kafka}, spec: {kafka: {brokers: "k:1", authRequired: true, tls: {}}}}
---
{kind: EventBus, metadata: {name: oauth}, spec: {kafka: {brokers: "k:1", authRequired: true, saslMechanism: OAUTHBEARER, saslOAuth: {tokenURL: "http://t/token", clientID: c}}}}
---
{kind: EventBus, metadata: {name: open}, spec: {embedded: {}}}
---
{kind: EventSource, metadata: {name: on-stan}, spec: {eventBus: stan, http: {e: {}}}}
---
{kind: EventSource, metadata: {name: on-kafka}, spec: {eventBus: kafka, http: {e: {}}}}
---
{kind: EventSource, metadata: {name: on-oauth}, spec: {eventBus: oauth, http: {e: {}}}}
---
{kind: EventSource, metadata: {name: on-js}, spec: {eventBus: js, http: {e: {}}}}
---
{kind: EventSource, metadata: {name: es}, spec: {eventBus: open,
  http: {bearer: {auth: {bearer: {}}}, basic: {auth: {basic: {}}}, hmac: {auth: {hmac: {scheme: github}}}, oidc: {auth: {oidc: {issuer: "https://i", audience: a}}}},
  kafka: {plain: {brokers: "k:1", authRequired: true, tls: {}}, oauth: {brokers: "k:1", authRequired: true, saslMechanism: OAUTHBEARER, saslOAuth: {tokenURL: "http://t/token", clientID: c}}},
  redis: {r: {redisHost: "r:1", stream: x, failover: true, sentinelMasterName: m, tls: {}}},
  mqtt: {m: {url: "ssl://m:1", topic: t}}}}
---
{kind: EventSource, metadata: {name: sunk}, spec: {eventBus: open, sink: {}, deadLetterSink: {}, http: {e: {}}}}
---
{kind: Trigger, metadata: {name: t}, spec: {eventBus: open, inputs: {e: {eventSource: sunk, event: e}}, subscribers: [{condition: e, sink: {}, deadLetterSink: {}}]}}`

// Every reference to a Secret that the types have, also one that somebody adds, is read into the plan. What is read is printed by nothing,
// whether or not it can be used. Names of users and certificates are none of it: they are not secret, and messages name them.
func TestNoValueOfASecretIsPrinted(t *testing.T) {
	cert, key := pair(t)
	var all []string
	for name, spec := range map[string]reflect.Type{
		"EventSource": reflect.TypeFor[v1alpha1.EventSourceSpec](), "EventBus": reflect.TypeFor[v1alpha1.EventBusSpec](), "Trigger": reflect.TypeFor[v1alpha1.TriggerSpec](),
	} {
		all = append(all, references(spec, name)...)
	}
	slices.Sort(all)
	for name, usable := range map[string]bool{"what can be used": true, "what cannot be used": false} {
		t.Run(name, func(t *testing.T) {
			o, opts := load(t, everyWay)
			for _, b := range o.EventBuses {
				plant(reflect.ValueOf(&b.Spec), "EventBus")
			}
			for _, b := range o.ClusterEventBuses {
				plant(reflect.ValueOf(&b.Spec), "EventBus")
			}
			for _, es := range o.EventSources {
				plant(reflect.ValueOf(&es.Spec), "EventSource")
			}
			for _, tr := range o.Triggers {
				plant(reflect.ValueOf(&tr.Spec), "Trigger")
			}
			var asked []string
			values := map[string]string{} // by what they begin with
			opts.Secret = func(_, _, path string) (string, error) {
				asked = append(asked, path)
				public := strings.HasSuffix(path, "sernameFrom") || strings.HasSuffix(path, "ertFrom")
				value := "planted:" + path + ";"
				if public {
					value = "public:" + path + ";"
				}
				values[value] = path
				switch {
				case usable && strings.HasSuffix(path, "ertFrom"):
					value += "\n" + cert // what stands before PEM is not looked at
				case usable && strings.HasSuffix(path, "clientKeyFrom"):
					value += "\n" + key
				case usable && strings.HasSuffix(path, ".uriFrom"):
					value = "https://example.com/" + value
				}
				return value, nil
			}
			p, problems := plan.Compile(o, opts)
			slices.Sort(asked)
			if diff := gocmp.Diff(all, slices.Compact(asked)); diff != "" {
				t.Errorf("asked for (-want, +got):\n%s", diff)
			}
			if text := marshal(t, p); usable {
				for value, path := range values {
					if !strings.Contains(text, value) {
						t.Errorf("the plan does not hold the value of %s", path)
					}
				}
				if len(problems) > 0 {
					t.Errorf("problems %v, want none", problems)
				}
			}
			for where, text := range map[string]string{
				"the plan":      fmt.Sprintf("%v %+v %#v", p, p, *p),
				"its copy":      marshal(t, p.Redacted()),
				"what is wrong": fmt.Sprintf("%+v %s", problems, marshal(t, problems)),
			} {
				if _, shown, found := strings.Cut(text, "planted:"); found {
					t.Errorf("%s shows the value of %.60s", where, shown)
				}
			}
		})
	}
}

// pair is a certificate and its key.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}
