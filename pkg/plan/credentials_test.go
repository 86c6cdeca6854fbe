package plan_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// keyRef is what points at a value in a Secret.
var keyRef = reflect.TypeFor[*v1alpha1.SecretKeyRef]()

// plant makes every reference to a Secret below v, also in parts that are not there yet, lead to the key that is its path.
func plant(v reflect.Value, path string) {
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			plant(v.Field(i), path+"."+name)
		}
	case v.Type() == keyRef:
		v.Set(reflect.ValueOf(&v1alpha1.SecretKeyRef{Name: "s", Key: path}))
	case v.Kind() == reflect.Pointer && refers(v.Type().Elem()):
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		plant(v.Elem(), path)
	case v.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			plant(v.MapIndex(key), path+"."+key.String())
		}
	}
}

// plantDeclared plants in the parts of a spec that are there.
func plantDeclared(spec reflect.Value, path string) {
	for i := range spec.NumField() {
		if f := spec.Field(i); (f.Kind() == reflect.Pointer || f.Kind() == reflect.Map) && !f.IsNil() {
			plant(f, path+"."+spec.Type().Field(i).Name)
		}
	}
}

// refers tells whether a struct has a reference to a Secret.
func refers(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		return t == keyRef || refers(t.Elem())
	}
	if t.Kind() != reflect.Struct || !strings.HasPrefix(t.PkgPath(), "github.com/openfunction/events/") {
		return false
	}
	for i := range t.NumField() {
		if refers(t.Field(i).Type) {
			return true
		}
	}
	return false
}

const everyKind = `
{kind: EventBus, metadata: {name: stan}, spec: {natsStreaming: {natsURL: "nats://n:1", natsStreamingClusterID: stan}}}
---
{kind: EventBus, metadata: {name: js}, spec: {jetStream: {url: "nats://n:1"}}}
---
{kind: ClusterEventBus, metadata: {name: kafka}, spec: {kafka: {brokers: "k:1", authRequired: true, saslMechanism: OAUTHBEARER, saslOAuth: {tokenURL: "http://t/token", clientID: c}}}}
---
{kind: EventSource, metadata: {name: on-stan}, spec: {eventBus: stan, http: {e: {}}}}
---
{kind: EventSource, metadata: {name: on-kafka}, spec: {eventBus: kafka, http: {e: {}}}}
---
{kind: EventSource, metadata: {name: es}, spec: {eventBus: js,
  http: {e: {}, f: {}, g: {}, h: {}}, kafka: {k: {brokers: "k:1", topic: t, authRequired: true}},
  redis: {r: {redisHost: "r:1", stream: x, enableTLS: true}}, mqtt: {m: {url: "tcp://m:1", topic: t}}}}`

// Whatever is read from a Secret, now or by a field that somebody adds, is printed by nothing, whether or not it can be used. Names of users and
// certificates are none of it: they are not secret, and messages name them.
func TestNoValueOfASecretIsPrinted(t *testing.T) {
	for name, pem := range map[string]string{"what can be used": "", "what cannot be used": "planted:"} {
		t.Run(name, func(t *testing.T) {
			o, opts := load(t, everyKind)
			for _, b := range o.EventBuses {
				plantDeclared(reflect.ValueOf(b.Spec), b.Name)
			}
			for _, b := range o.ClusterEventBuses {
				plantDeclared(reflect.ValueOf(b.Spec), b.Name)
			}
			for _, es := range o.EventSources {
				plantDeclared(reflect.ValueOf(es.Spec), es.Name)
			}
			var asked []string
			opts.Secret = func(_, _, key string) (string, error) {
				lower := strings.ToLower(key)
				if public := strings.HasSuffix(lower, "usernamefrom") || strings.HasSuffix(lower, "certfrom"); public && pem == "" {
					if strings.HasSuffix(lower, "certfrom") {
						return "", nil
					}
					return "user", nil
				}
				if strings.HasSuffix(lower, "clientkeyfrom") && pem == "" {
					return "", nil
				}
				asked = append(asked, key)
				return "planted:" + key, nil
			}
			p, problems := plan.Compile(o, opts)
			if n := strings.Count(marshal(t, p), "planted:"); pem == "" && n < 12 {
				t.Errorf("the plan holds %d values, want all of %v: %v", n, asked, problems)
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
