//go:build e2e

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/test/servers"
)

// guarded has servers that let in only who knows a password, and a source of each kind that has one. What that takes is in Secrets.
type guarded struct {
	*installation
	kafka     *servers.SecuredKafkaServer
	redis     *servers.RedisServer
	mosquitto *servers.MosquittoServer
	sink      *sink
	token     atomic.Value // that is shown with http events
}

const guardedObjects = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: guarded}
spec:
  kafka:
    brokers: %[1]q
    partitions: 2
    authRequired: true
    saslMechanism: SCRAM-SHA-512
    saslUsernameFrom: {name: kafka, key: username}
    saslPasswordFrom: {name: kafka, key: password}
    tls: {caCertFrom: {name: kafka, key: ca.crt}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: records, namespace: guarded}
spec:
  kafka:
    record:
      brokers: %[1]q
      topic: records
      initialOffset: oldest
      authRequired: true
      saslMechanism: SCRAM-SHA-512
      saslUsernameFrom: {name: kafka, key: username}
      saslPasswordFrom: {name: kafka, key: password}
      tls: {caCertFrom: {name: kafka, key: ca.crt}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: jobs, namespace: guarded}
spec:
  redis:
    job:
      redisHost: %[2]q
      redisUsernameFrom: {name: redis, key: username}
      redisPasswordFrom: {name: redis, key: password}
      stream: jobs
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: sensors, namespace: guarded}
spec:
  mqtt:
    reading:
      url: %[3]q
      topic: sensors/#
      usernameFrom: {name: mqtt, key: username}
      passwordFrom: {name: mqtt, key: password}
      caCertFrom: {name: mqtt, key: ca.crt}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: web, namespace: guarded}
spec:
  http:
    posted: {auth: {bearer: {tokenFrom: {name: web, key: token}}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t, namespace: guarded}
spec:
  inputs:
    record: {eventSource: records, event: record}
    job: {eventSource: jobs, event: job}
    reading: {eventSource: sensors, event: reading}
    posted: {eventSource: web, event: posted}
  subscribers: [{condition: record || job || reading || posted, sink: {uri: %[4]q}}]
`

// besideObjects have nothing to do with those.
const besideObjects = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: beside}
spec: {jetStream: {url: %q}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es, namespace: beside}
spec: {http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t, namespace: beside}
spec: {inputs: {posted: {eventSource: es, event: posted}}, subscribers: [{condition: posted, sink: {uri: %q}}]}
`

// prompt is how soon a changed Secret has to count. Without a word of a change, an object that is ready is looked at after 30 s at the earliest.
const prompt = 20 * time.Second

// TestE2ESources has a Kafka bus and sources of every kind that has a server behind access control. All Secrets are wrong at first, and
// change while events pass. Events of another bus pass all the time.
func TestE2ESources(t *testing.T) {
	i := install(t)
	beside := newSink(t)
	i.Kubectl("create", "namespace", "beside")
	i.Apply(fmt.Sprintf(besideObjects, servers.JetStream(t).URL(), beside.URL))
	g := newGuarded(t, i)
	i.ready(time.Minute, "-n", "beside", "eb/default", "es/es", "tg/t")
	others := i.loadOf(20, "beside/es/posted")

	for _, step := range []struct {
		name string
		do   func(*guarded)
	}{
		{"a bus with a wrong authority, then a wrong password", (*guarded).wrongBus},
		{"sources with a wrong password, a wrong authority, no key, no topic", (*guarded).wrongSources},
		{"every credential changes while events pass", (*guarded).rotates},
	} {
		t.Run(step.name, func(t *testing.T) {
			others.begin()
			step.do(g.in(t))
			g.passes(others, 20, beside)
			if _, refusals, _ := others.end(); len(refusals) > 0 {
				t.Errorf("events of another bus were refused:\n%s", summary(refusals))
			}
			g.noneRestarted()
		})
	}
	others.stop()
	i.eventually(time.Minute, "every event of the other bus", func() error { return beside.missing(others.taken...) })
	t.Logf("%d events of another bus taken, none refused or lost", len(others.taken))
	i.nothingSaid(slices.Concat(before, after, wrong)...)
}

// The passwords of the bus, redis and mqtt, and the token of http events: at first, later, and never.
var (
	before = []string{"kafka-passw0rd-1", "redis-passw0rd-1", "mqtt-passw0rd-1", "http-t0ken-1"}
	after  = []string{"kafka-passw0rd-2", "redis-passw0rd-2", "mqtt-passw0rd-2", "http-t0ken-2"}
	wrong  = []string{"another-passw0rd"}
)

func newGuarded(t *testing.T, i *installation) *guarded {
	t.Helper()
	g := &guarded{installation: i, kafka: servers.SecuredKafka(t), redis: servers.Redis(t), mosquitto: servers.Mosquitto(t), sink: newSink(t)}
	g.kafka.SetPassword("events", before[0])
	// These are the commands that the documentation names.
	g.redis.Do("ACL", "SETUSER", "events", "on", ">"+before[1], "~jobs",
		"+xgroup", "+xinfo", "+xreadgroup", "+xack", "+xclaim", "+xautoclaim", "+xpending", "+eval", "+evalsha")
	g.mosquitto.SetPassword("events", before[2])
	g.token.Store("Bearer " + before[3])

	stranger := servers.NewAuthority(t).Cert
	g.Kubectl("create", "namespace", "guarded")
	for name, data := range map[string]map[string]string{
		"kafka": {"username": "events", "password": wrong[0], "ca.crt": stranger},
		"redis": {"username": "events", "password": wrong[0]},
		"mqtt":  {"username": "events", "password": before[2], "ca.crt": stranger},
		"web":   {"token": before[3]},
	} {
		g.Kubectl("-n", "guarded", "create", "secret", "generic", name)
		g.patches(name, data)
	}
	g.Apply(fmt.Sprintf(guardedObjects, g.kafka.SASLSSL, g.redis.Addr(), "ssl://"+g.mosquitto.TLS, g.sink.URL))
	return g
}

func (g *guarded) in(t *testing.T) *guarded {
	g.installation = g.installation.in(t)
	return g
}

// patches changes keys of a Secret.
func (g *guarded) patches(secret string, data map[string]string) {
	g.t.Helper()
	text, err := json.Marshal(map[string]any{"stringData": data})
	if err != nil {
		g.t.Fatal(err)
	}
	g.Kubectl("-n", "guarded", "patch", "secret", secret, "-p", string(text))
}

// tell waits until objects say that they cannot reach something, with these parts of the message.
func (g *guarded) tell(objects []string, message ...string) {
	g.t.Helper()
	g.tellAs("Unreachable", objects, message...)
}

// tellAs waits until objects have one clear condition, with these parts of its message.
func (g *guarded) tellAs(reason string, objects []string, message ...string) {
	g.t.Helper()
	missing := func(out string) bool {
		return slices.ContainsFunc(message, func(part string) bool { return !strings.Contains(out, part) })
	}
	for _, object := range objects {
		g.eventually(45*time.Second, object, func() error {
			out, err := g.Try("-n", "guarded", "get", object, "-o",
				`jsonpath={.status.state} {.status.conditions[?(@.type=="Ready")].reason}: {.status.conditions[?(@.type=="Ready")].message}`)
			if err == nil && (!strings.HasPrefix(out, "Error "+reason+": ") || missing(out)) {
				err = fmt.Errorf("it says %q, want %q", out, message)
			}
			return err
		})
	}
	g.t.Logf("%s: %s", strings.Join(objects, ", "), g.Kubectl("-n", "guarded", "get", objects[0], "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`))
}

// wrongBus wants whoever uses the bus to say what is wrong with it, while all try again in silence.
func (g *guarded) wrongBus() {
	g.t.Helper()
	users := []string{"eb/default", "es/records", "es/jobs", "es/sensors", "es/web", "tg/t"}
	bus := "EventBus guarded/default is unavailable: kafka " + g.kafka.SASLSSL + ": "
	g.tell(users, bus+"the broker's certificate was signed by an authority that is not trusted: correct tls.caCertFrom")
	g.patches("kafka", map[string]string{"ca.crt": g.kafka.Authority.Cert})
	g.tell(users, bus+`the brokers refuse user "events" or its password with SCRAM-SHA-512 (SASL_AUTHENTICATION_FAILED): `+
		"correct saslUsername and saslPasswordFrom")
	g.triesInSilence()
	g.patches("kafka", map[string]string{"password": before[0]})
	took := g.ready(prompt, "-n", "guarded", "eb/default", "es/web", "tg/t")
	g.t.Logf("ready %s after the Secret was right", took.Round(10*time.Millisecond))
}

// wrongSources wants those and nobody else to say what is wrong with them.
func (g *guarded) wrongSources() {
	g.t.Helper()
	g.tell([]string{"es/jobs"}, "redis event job: ", g.redis.Addr(), "the server refuses the user name or password (WRONGPASS): correct redisUsername and redisPasswordFrom")
	g.tell([]string{"es/sensors"}, "mqtt event reading: ", g.mosquitto.TLS, "signed by an authority that is not trusted: correct caCertFrom")
	g.tell([]string{"es/records"}, "kafka event record: topic records does not exist on "+g.kafka.SASLSSL+": create it, or correct topic")
	g.triesInSilence()
	g.ready(prompt, "-n", "guarded", "eb/default", "es/web", "tg/t")
	web := g.web("1")
	g.passes(web, 20, g.sink)
	web.stop()

	g.Kubectl("-n", "guarded", "patch", "secret", "redis", "--type=json", "-p", `[{"op": "remove", "path": "/data/password"}]`)
	g.patches("mqtt", map[string]string{"ca.crt": g.mosquitto.Authority.Cert, "password": wrong[0]})
	g.tellAs("SecretNotFound", []string{"es/jobs"}, `spec.redis[job].redisPasswordFrom: key "password" of Secret guarded/redis: the Secret has no such key: add it`)
	g.tell([]string{"es/sensors"}, "mqtt event reading: ", g.mosquitto.TLS, `the server refuses the user name "events" or its password`, "correct username and passwordFrom")

	g.kafka.CreateTopic("records", 2)
	g.patches("redis", map[string]string{"password": before[1]})
	g.patches("mqtt", map[string]string{"password": before[2]})
	took := g.ready(30*time.Second, "-n", "guarded", "eb/default", "es/records", "es/jobs", "es/sensors", "es/web", "tg/t")
	g.t.Logf("ready %s after the Secrets were right and the topic was there", took.Round(10*time.Millisecond))
}

// triesInSilence wants no process to end, and none to say again and again what it waits for.
func (g *guarded) triesInSilence() {
	g.t.Helper()
	const quiet = 10 * time.Second
	before := g.lines()
	time.Sleep(quiet) // This long nothing may be said over and over.
	for pod, n := range g.lines() {
		if said := n - before[pod]; said > 20 {
			g.t.Errorf("%s said %d lines within %s", pod, said, quiet)
		} else if said > 0 {
			g.t.Logf("%s said %d lines within %s", pod, said, quiet)
		}
	}
}

// lines is how many every pod of ours has logged.
func (i *installation) lines() map[string]int {
	i.t.Helper()
	lines := map[string]int{}
	for pod := range strings.Lines(i.Kubectl("get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}`)) {
		at := strings.Fields(pod)
		lines[at[0]+"/"+at[1]] = strings.Count(i.Kubectl("-n", at[0], "logs", at[1]), "\n")
	}
	return lines
}

// noneRestarted wants no process to have ended.
func (i *installation) noneRestarted() {
	i.t.Helper()
	restarts := i.Kubectl("get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
	for line := range strings.Lines(restarts) {
		if !strings.HasSuffix(line, " 0\n") {
			i.t.Errorf("restarted: %s", line)
		}
	}
}

// web sends http events, whose ids begin with a digit: they are JSON.
func (g *guarded) web(prefix string) *load {
	return g.loadBy(20, prefix, poster(g.ingress()+"guarded/web/posted", func() string { return g.token.Load().(string) }))
}

// rotates changes all that is in the Secrets. Servers that can take the old and the new for a while do.
func (g *guarded) rotates() {
	g.t.Helper()
	pods := g.guardedPods()
	producer, publisher := g.redis.Client(), g.mosquitto.Publisher()
	web := g.web("2")
	produce := func(_ context.Context, id string) string {
		g.kafka.Produce(servers.KafkaRecord("records", "", id))
		return ""
	}
	records := g.loadBy(20, "record-", produce)
	loads := []*load{web, records,
		g.loadBy(20, "job-", func(ctx context.Context, id string) string {
			if err := producer.XAdd(ctx, &redis.XAddArgs{Stream: "jobs", Values: []string{"data", id}}).Err(); err != nil {
				return err.Error()
			}
			return ""
		}),
		g.loadBy(20, "reading-", func(_ context.Context, id string) string {
			publisher.Publish(g.t, &paho.Publish{Topic: "sensors/" + id, QoS: 1, Payload: []byte(id)})
			return ""
		}),
	}
	passes := func(what string, loads ...*load) {
		g.t.Helper()
		for _, l := range loads {
			g.passes(l, 20, g.sink)
		}
		g.t.Logf("events of every source pass %s", what)
	}
	passes("at first", loads...)
	for _, l := range loads {
		l.begin()
	}

	begin := time.Now()
	g.patches("web", map[string]string{"token": before[3] + "\n" + after[3]})
	g.answersTo("Bearer "+after[3], http.StatusAccepted)
	g.t.Logf("the new token is taken after %s", time.Since(begin).Round(10*time.Millisecond))
	g.token.Store("Bearer " + after[3])
	g.passes(web, 2*senders, g.sink)
	g.patches("web", map[string]string{"token": after[3]})
	g.answersTo("Bearer "+before[3], http.StatusUnauthorized)

	known := g.connections()
	g.redis.Do("ACL", "SETUSER", "events", ">"+after[1])
	begin = time.Now()
	g.patches("redis", map[string]string{"password": after[1]})
	g.eventually(prompt, "connections to Redis with the new password", func() error {
		now := g.connections()
		if old := slices.DeleteFunc(slices.Clone(now), func(id int) bool { return !slices.Contains(known, id) }); len(now) == 0 || len(old) > 0 {
			return fmt.Errorf("connected are %v, and before %v", now, known)
		}
		return nil
	})
	g.t.Logf("the new password of Redis is used after %s", time.Since(begin).Round(10*time.Millisecond))
	g.redis.Do("ACL", "SETUSER", "events", "<"+before[1])

	begin = time.Now()
	g.mosquitto.SetPassword("events", after[2]) // It has one at a time.
	g.patches("mqtt", map[string]string{"password": after[2]})
	passes("with a new token and new passwords of Redis and MQTT", loads...)
	g.t.Logf("that was %s after the change of MQTT's", time.Since(begin).Round(10*time.Millisecond))

	g.kafka.SetPassword("events", after[0]) // It has one at a time, and asks for it at new connections.
	g.patches("kafka", map[string]string{"password": after[0]})
	passes("with a new password of the bus", loads...)
	records.stop() // Produce needs the brokers.
	g.kafka.Kill()
	g.kafka.Start()
	late := g.loadBy(20, "late-record-", produce)
	late.begin()
	passes("after everybody had to show it", append(slices.Clone(loads[2:]), web, late)...)

	for _, l := range append(loads, late) {
		l.stop()
		g.eventually(time.Minute, "every event at the sink", func() error { return g.sink.missing(l.taken...) })
		_, refusals, pause := l.end()
		g.t.Logf("%d events like %q taken, none lost; none taken for %s at most; %d times refused\n%s", len(l.taken), l.taken[0],
			pause.Round(time.Millisecond), len(refusals), summary(refusals))
		if slices.ContainsFunc(refusals, func(r string) bool { return strings.HasPrefix(r, "401 ") }) {
			g.t.Error("a token was refused that has to be taken")
		}
	}
	g.t.Logf("%d deliveries", len(g.sink.received()))
	g.ready(30*time.Second, "-n", "guarded", "eb/default", "es/records", "es/jobs", "es/sensors", "es/web", "tg/t")
	if got := g.guardedPods(); got != pods {
		g.t.Errorf("pods were %s and are %s", pods, got)
	}
}

func (g *guarded) guardedPods() string {
	g.t.Helper()
	return g.pods("guarded", "app.kubernetes.io/managed-by=events-controller") + g.pods(gateways.namespace, gateways.selector)
}

// answersTo posts with this authorization until the status is the one that is wanted, promptly.
func (g *guarded) answersTo(authorization string, want int) {
	g.t.Helper()
	send := poster(g.ingress()+"guarded/web/posted", func() string { return authorization })
	g.eventually(prompt, "an answer to "+authorization, func() error {
		refusal := send(g.t.Context(), "0")
		if want == http.StatusAccepted && refusal != "" || want != http.StatusAccepted && !strings.HasPrefix(refusal, strconv.Itoa(want)) {
			return fmt.Errorf("got %q, want %d", refusal, want)
		}
		return nil
	})
}

// connections are the ids of those that Redis has of the source's user.
func (g *guarded) connections() (ids []int) {
	g.t.Helper()
	for _, found := range regexp.MustCompile(`(?m)^id=(\d+) .* user=events `).FindAllStringSubmatch(fmt.Sprint(g.redis.Do("CLIENT", "LIST")), -1) {
		id, err := strconv.Atoi(found[1])
		if err != nil {
			g.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
