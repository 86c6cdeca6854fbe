package v1alpha1

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"knative.dev/pkg/apis"
)

// What waits for a consumer waits under its name. The default names are those of the EventSource x in default.
func TestUpdateOfWhoReads(t *testing.T) {
	const cure = "; add another event with the new value, and remove this one once it has caught up, or first if what waits may be lost"
	group := func(kind, from string) string {
		return "spec." + kind + "[e].consumerGroup: cannot be changed from \"" + from + "\": what waits under that consumer group would not be read" + cure
	}
	client := func(from string) string {
		return `spec.mqtt[e].consumerID: cannot be changed from "` + from + `": what waits under that client id would not be read` + cure
	}
	session := func(from string) string {
		return `spec.mqtt[e].group: cannot be changed from "` + from + `": what waits in the session would not be read` + cure
	}
	clean := func(id string) string {
		return `spec.mqtt[e].cleanSession: cannot be changed to true: what waits in the session of the client id "` + id + `" would be lost` + strings.Replace(cure, "the new value", "another consumerID", 1)
	}
	elsewhere := func(path, what string) string {
		return path + ": reads elsewhere now, and what still waits for the " + what + " may be lost, unless that is the same under another address"
	}
	removed := func(path, what string) string {
		return path + ": is removed, and what still waits for the " + what + " stays there unread, unless another event reads it under that name"
	}
	for _, tt := range []struct {
		name, from, to string
		want           []string
	}{
		{"kafka: a group stays", `kafka: {e: {brokers: "k:9092", consumerGroup: one}}`, `kafka: {e: {brokers: "k:9092", consumerGroup: two}}`, []string{group("kafka", "one")}},
		{"kafka: it is not left out either", `kafka: {e: {brokers: "k:9092", consumerGroup: one}}`, `kafka: {e: {brokers: "k:9092"}}`, []string{group("kafka", "one")}},
		{"kafka: nor is the default", `kafka: {e: {brokers: "k:9092"}}`, `kafka: {e: {brokers: "k:9092", consumerGroup: one}}`, []string{group("kafka", "openfunction.default.x.kafka.e")}},
		{"kafka: the defaults may be written out", `kafka: {e: {brokers: "k:9092"}}`, `kafka: {e: {brokers: "k:9092", topic: e, consumerGroup: openfunction.default.x.kafka.e}}`, nil},
		{"kafka: and be left out", `kafka: {e: {brokers: "k:9092", topic: e, consumerGroup: openfunction.default.x.kafka.e}}`, `kafka: {e: {brokers: "k:9092"}}`, nil},
		{"kafka: another broker of a cluster is the same cluster", `kafka: {e: {brokers: "k:9092,l:9092", consumerGroup: one}}`, `kafka: {e: {brokers: "m:9092, K:9092", consumerGroup: two}}`, []string{group("kafka", "one")}},
		{"kafka: what else there is may change", `kafka: {e: {brokers: "k:9092,l:9092"}}`, `kafka: {e: {brokers: "l:9092", initialOffset: oldest, maxMessageBytes: 5}}`, nil},
		{
			"kafka: a group that begins with the oldest record leaves nothing out", `kafka: {e: {brokers: "k:9092", consumerGroup: one}}`, `kafka: {e: {brokers: "k:9092", consumerGroup: two, initialOffset: oldest}}`,
			[]string{`spec.kafka[e].consumerGroup: was "one": a group that is new begins with the oldest record, read before or not; one that exists goes on where it was`},
		},
		{
			"kafka: with another topic the group is free", `kafka: {e: {brokers: "k:9092", consumerGroup: one}}`, `kafka: {e: {brokers: "k:9092", topic: f, consumerGroup: two}}`,
			[]string{elsewhere("spec.kafka[e]", `consumer group "one" in topic e at k:9092`)},
		},
		{
			"kafka: and with other brokers", `kafka: {e: {brokers: "k:9092", consumerGroup: one}}`, `kafka: {e: {brokers: "k:9093", consumerGroup: two}}`,
			[]string{elsewhere("spec.kafka[e]", `consumer group "one" in topic e at k:9092`)},
		},
		{"kafka: brokers that were wrong may be mended", `kafka: {e: {brokers: "", consumerGroup: one}}`, `kafka: {e: {brokers: "k:9093", consumerGroup: two}}`, nil},
		{
			"kafka: a removed event leaves what waits", `kafka: {e: {brokers: "k:9092"}}, http: {x: {}}`, `http: {x: {}}`,
			[]string{removed("spec.kafka[e]", `consumer group "openfunction.default.x.kafka.e" in topic e at k:9092`)},
		},
		{
			"kafka: so does a renamed one, whose default is another", `kafka: {e: {brokers: "k:9092"}}`, `kafka: {f: {brokers: "k:9092", topic: e}}`,
			[]string{removed("spec.kafka[e]", `consumer group "openfunction.default.x.kafka.e" in topic e at k:9092`)},
		},
		{"kafka: a renamed event may keep its group", `kafka: {e: {brokers: "k:9092"}}`, `kafka: {f: {brokers: "k:9092", topic: e, consumerGroup: openfunction.default.x.kafka.e}}`, nil},
		{
			"kafka: another event may take the group over", `kafka: {e: {brokers: "k:9092", topic: t, consumerGroup: one}}`,
			`kafka: {e: {brokers: "k:9092", topic: t, consumerGroup: two}, f: {brokers: "k:9092", topic: t, consumerGroup: one}}`, nil,
		},
		{
			"kafka: one of another topic does not", `kafka: {e: {brokers: "k:9092", consumerGroup: one}}`,
			`kafka: {e: {brokers: "k:9092", consumerGroup: two}, f: {brokers: "k:9092", consumerGroup: one}}`, []string{group("kafka", "one")},
		},
		{"redis: a group stays", `redis: {e: {redisHost: "r:6379", consumerGroup: one}}`, `redis: {e: {redisHost: "r:6379", consumerGroup: two}}`, []string{group("redis", "one")}},
		{"redis: so does the default", `redis: {e: {redisHost: "r:6379", stream: s}}`, `redis: {e: {redisHost: "r:6379", stream: s, consumerGroup: two}}`, []string{group("redis", "openfunction.default.x.redis.e")}},
		{"redis: the defaults may be written out", `redis: {e: {redisHost: "r:6379"}}`, `redis: {e: {redisHost: "r:6379", stream: e, redisDB: 0, consumerGroup: openfunction.default.x.redis.e}}`, nil},
		{
			"redis: with another stream the group is free", `redis: {e: {redisHost: "r:6379", consumerGroup: one}}`, `redis: {e: {redisHost: "r:6379", stream: s, consumerGroup: two}}`,
			[]string{elsewhere("spec.redis[e]", `consumer group "one" in stream e at r:6379`)},
		},
		{
			"redis: and in another database", `redis: {e: {redisHost: "r:6379", redisDB: 2, consumerGroup: one}}`, `redis: {e: {redisHost: "r:6379", consumerGroup: two}}`,
			[]string{elsewhere("spec.redis[e]", `consumer group "one" in stream e of database 2 at r:6379`)},
		},
		{
			"redis: and at another master", `redis: {e: {redisHost: "r:6379", failover: true, sentinelMasterName: m, consumerGroup: one}}`,
			`redis: {e: {redisHost: "r:6379", failover: true, sentinelMasterName: n, consumerGroup: two}}`,
			[]string{elsewhere("spec.redis[e]", `consumer group "one" in stream e of master m at r:6379`)},
		},
		{
			"redis: a list in place of a stream", `redis: {e: {redisHost: "r:6379"}}`, `redis: {e: {redisHost: "r:6379", list: e}}`,
			[]string{elsewhere("spec.redis[e]", `consumer group "openfunction.default.x.redis.e" in stream e at r:6379`)},
		},
		{"redis: a stream in place of a list", `redis: {e: {redisHost: "r:6379", list: e}}`, `redis: {e: {redisHost: "r:6379", consumerGroup: one}}`, nil},
		{"redis: lists and channels may be removed", `redis: {e: {redisHost: "r:6379", list: e}, f: {redisHost: "r:6379", channel: e}, g: {redisHost: "r:6379", pattern: e}}, http: {x: {}}`, `http: {x: {}}`, nil},
		{"mqtt: a client id stays", `mqtt: {e: {url: "tcp://m", topic: t, consumerID: one}}`, `mqtt: {e: {url: "tcp://m", topic: t, consumerID: two}}`, []string{client("one")}},
		{"mqtt: so does the default", `mqtt: {e: {url: "tcp://m", topic: t}}`, `mqtt: {e: {url: "tcp://m", topic: t, consumerID: two}}`, []string{client("openfunction.default.x.mqtt.e")}},
		{
			"mqtt: the defaults may be written out", `mqtt: {e: {url: "tcp://m", topic: t}}`,
			`mqtt: {e: {url: "tcp://u:p@m:1883?token=x", topic: t, consumerID: openfunction.default.x.mqtt.e, cleanSession: false, qos: 1}}`,
			[]string{"spec.mqtt[e].url: holds a password in plain text, which anyone who may read this object can see: use username and passwordFrom"},
		},
		{"mqtt: a group makes other client ids", `mqtt: {e: {url: "tcp://m", topic: t}}`, `mqtt: {e: {url: "tcp://m", topic: t, group: g, replicas: 3}}`, []string{session("")}},
		{"mqtt: another group is another subscription", `mqtt: {e: {url: "tcp://m", topic: t, group: g}}`, `mqtt: {e: {url: "tcp://m", topic: t, group: h}}`, []string{session("g")}},
		{"mqtt: replicas may change", `mqtt: {e: {url: "tcp://m", topic: t, group: g, replicas: 3}}`, `mqtt: {e: {url: "tcp://m", topic: t, group: g}}`, nil},
		{"mqtt: a session stays", `mqtt: {e: {url: "tcp://m", topic: t, consumerID: one}}`, `mqtt: {e: {url: "tcp://m", topic: t, consumerID: one, cleanSession: true}}`, []string{clean("one")}},
		{"mqtt: a session may begin", `mqtt: {e: {url: "tcp://m", topic: t, consumerID: one, cleanSession: true}}`, `mqtt: {e: {url: "tcp://m", topic: t, consumerID: two}}`, nil},
		{"mqtt: everything at once", `mqtt: {e: {url: "tcp://m", topic: t, consumerID: one}}`, `mqtt: {e: {url: "tcp://m", topic: t, consumerID: two, group: g, cleanSession: true}}`, []string{clean("one"), client("one"), session("")}},
		{"mqtt: nothing waits at QoS 0", `mqtt: {e: {url: "tcp://m", topic: t, qos: 0, consumerID: one}}`, `mqtt: {e: {url: "tcp://m", topic: t, qos: 1, consumerID: two, cleanSession: true}}`, nil},
		{"mqtt: a session may go on at QoS 0", `mqtt: {e: {url: "tcp://m", topic: t}}`, `mqtt: {e: {url: "tcp://m", topic: t, qos: 0}}`, nil},
		{
			"mqtt: with another topic the client id is free", `mqtt: {e: {url: "mqtts://m", topic: t, consumerID: one}}`, `mqtt: {e: {url: "mqtts://m", topic: u, consumerID: two}}`,
			[]string{elsewhere("spec.mqtt[e]", `client id "one" in topic t at m:8883`)},
		},
		{
			"mqtt: and at another broker", `mqtt: {e: {url: "tcp://m:1", topic: t, consumerID: one}}`, `mqtt: {e: {url: "tcp://m:2", topic: t, consumerID: two, cleanSession: true}}`,
			[]string{elsewhere("spec.mqtt[e]", `client id "one" in topic t at m:1`)},
		},
		{"mqtt: a removed event leaves its session", `mqtt: {e: {url: "ws://m", topic: t}}, http: {x: {}}`, `http: {x: {}}`, []string{removed("spec.mqtt[e]", `client id "openfunction.default.x.mqtt.e" in topic t at m:80`)}},
		{"mqtt: a member of a group ends its own", `mqtt: {e: {url: "tcp://m", topic: t, group: g}}, http: {x: {}}`, `http: {x: {}}`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			document := func(spec string) string {
				return "{kind: EventSource, metadata: {name: x, namespace: default}, spec: {eventBus: default, " + spec + "}}"
			}
			old, o := decode(t, document(tt.from)), decode(t, document(tt.to))
			ctx := apis.WithinUpdate(context.Background(), old)
			o.SetDefaults(ctx)
			var got []string
			for _, p := range Flatten(o.Validate(ctx)) {
				got = append(got, p.String())
				if wants := !strings.Contains(p.Message, "cannot be changed"); p.Warning != wants {
					t.Errorf("%s: warning %t, want %t", p, p.Warning, wants)
				}
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("update (-got +want):\n%s", diff)
			}
		})
	}
}
