//go:build e2e

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/client/clientset/versioned"
	informers "github.com/openfunction/events/pkg/client/informers/externalversions"
	"github.com/openfunction/events/test/servers"
)

const statusObjects = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: full}
spec: {jetStream: {url: "nats://nats.full:4222", maxBytes: 65536}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: jobs, namespace: full}
spec: {redis: {job: {redisHost: "redis.full:6379", list: jobs}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: web, namespace: full}
spec: {http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t, namespace: full}
spec:
  inputs: {job: {eventSource: jobs, event: job}, posted: {eventSource: web, event: posted}}
  subscribers: [{condition: job || posted, sink: {uri: %[1]q}, delivery: {timeout: PT10M}}]
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: losing}
spec: {jetStream: {url: "nats://nats.losing:4222"}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es, namespace: losing}
spec: {http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t, namespace: losing}
spec: {inputs: {posted: {eventSource: es, event: posted}}, subscribers: [{condition: posted, topic: out}]}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: refusing}
spec: {jetStream: {url: "nats://nats.refusing:4222"}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es, namespace: refusing}
spec: {http: {posted: {}, lost: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t, namespace: refusing}
spec:
  inputs: {posted: {eventSource: es, event: posted}}
  subscribers: [{condition: posted, sink: {uri: %[2]q}, delivery: {retry: 1000, backoffDelay: PT0.2S, backoffPolicy: linear}}]
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: loser, namespace: refusing}
spec:
  inputs: {lost: {eventSource: es, event: lost}}
  subscribers: [{condition: lost, sink: {uri: %[3]q}, deadLetterTopic: letters}]
---
apiVersion: v1
kind: Secret
metadata: {name: issuer, namespace: refusing}
stringData: {ca.crt: %[4]q}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: guarded, namespace: refusing}
spec: {http: {posted: {auth: {oidc: {issuer: %[5]q, audience: events, caCertFrom: {name: issuer, key: ca.crt}}}}}}
`

// statuses has what makes objects say something.
type statuses struct {
	*installation
	redis     *servers.RedisServer
	streams   map[string]jetstream.JetStream // by namespace
	open      func()                         // makes the sink of namespace full take events
	answer    *atomic.Int32                  // of the sink of namespace refusing
	issuer    string                         // host:port
	authority *servers.Authority             // of the issuer
	history   *history
}

// TestE2EStatuses wants what does not work to be said by the objects that it concerns, in a sentence that has the cure, once, and no longer than it
// is so. What a wrong Secret or a missing topic make of a source is in TestE2ESources.
func TestE2EStatuses(t *testing.T) {
	i := install(t)
	s := &statuses{installation: i, redis: servers.Redis(t), streams: map[string]jetstream.JetStream{}, answer: &atomic.Int32{}, authority: servers.NewAuthority(t)}
	for _, namespace := range []string{"full", "losing", "refusing"} {
		js := servers.JetStream(t)
		s.streams[namespace] = streamsOf(t, js.URL())
		i.forwardService(namespace, "nats", "4222", strings.TrimPrefix(js.URL(), "nats://"))
	}
	i.forwardService("full", "redis", "6379", s.redis.Addr())
	if _, err := s.streams["refusing"].CreateStream(t.Context(), jetstream.StreamConfig{Name: "letters", Subjects: []string{"letters"}, MaxMsgSize: 2048}); err != nil {
		t.Fatal(err)
	}
	open := make(chan struct{})
	s.open = sync.OnceFunc(func() { close(open) })
	waits := serves(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-open:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(s.open)
	s.answer.Store(http.StatusServiceUnavailable)
	refuses := serves(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(s.answer.Load())) })
	never := serves(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	l := listen(t) // and nobody does any more
	s.issuer = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	i.Apply(fmt.Sprintf(statusObjects, waits, refuses, never, servers.NewAuthority(t).Cert, "https://"+s.issuer))
	for namespace, objects := range map[string][]string{
		"full": {"eb/default", "es/jobs", "es/web", "tg/t"}, "losing": {"eb/default", "es/es", "tg/t"}, "refusing": {"eb/default", "es/es", "es/guarded", "tg/t", "tg/loser"},
	} {
		i.ready(time.Minute, append([]string{"-n", namespace}, objects...)...)
	}
	s.history = i.follow()
	t.Run("all", func(t *testing.T) { // which ends when they all have
		for _, tt := range []struct {
			name  string
			check func(*statuses)
		}{
			{"a bus is full", (*statuses).full}, // which takes the longest
			{"a bus loses events", (*statuses).losing},
			{"a sink takes no events", (*statuses).notDelivered},
			{"a dead letter is too large", (*statuses).lost},
			{"an issuer is away", (*statuses).issuerAway},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				c := *s
				c.installation = i.in(t)
				tt.check(&c)
			})
		}
	})
	i.noneRestarted()
}

func streamsOf(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// serves returns the URL of a sink.
func serves(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = listen(t)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// good is what objects say that have nothing to say.
const good = "Ready is True"

// history is what every object says, one thing after the other.
type history struct {
	mu   sync.Mutex
	said map[string][]string // by namespace kind/name
}

func (i *installation) follow() *history {
	i.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", i.Kubeconfig())
	if err != nil {
		i.t.Fatal(err)
	}
	client, err := versioned.NewForConfig(config)
	if err != nil {
		i.t.Fatal(err)
	}
	h := &history{said: map[string][]string{}}
	factory := informers.NewSharedInformerFactory(client, 0)
	events := factory.Events().V1alpha1()
	for kind, informer := range map[string]cache.SharedIndexInformer{
		"eb": events.EventBuses().Informer(), "es": events.EventSources().Informer(), "tg": events.Triggers().Informer(),
	} {
		saw := func(o any) { h.saw(kind, o.(duckv1.KRShaped)) }
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: saw, UpdateFunc: func(_, o any) { saw(o) }}); err != nil {
			i.t.Fatal(err)
		}
	}
	factory.Start(i.t.Context().Done())
	factory.WaitForCacheSync(i.t.Context().Done())
	return h
}

// saw notes what o says now: the status of Ready, and of its parts those that have a message. That a change is being applied is nothing.
func (h *history) saw(kind string, o duckv1.KRShaped) {
	ready := o.GetStatus().GetCondition(apis.ConditionReady)
	if ready.IsUnknown() {
		return
	}
	said := "Ready is " + string(ready.Status)
	for _, c := range o.GetStatus().Conditions {
		if c.Type != apis.ConditionReady && c.Message != "" && c.Reason != "NotUsed" {
			said += fmt.Sprintf("; %s %s: %s", c.Type, c.Reason, c.Message)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := o.GetNamespace() + " " + kind + "/" + o.GetName()
	if all := h.said[key]; len(all) == 0 || all[len(all)-1] != said {
		h.said[key] = append(all, said)
	}
}

func (h *history) of(key string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.said[key])
}

// say waits until objects, of one namespace, say all these parts, or what is the only one and nothing else. What is noticed only when somebody looks is looked at without
// waiting for the time to do so.
func (s *statuses) say(namespace string, objects map[string][]string) {
	s.t.Helper()
	var looked time.Time
	s.eventually(3*time.Minute, namespace, func() error {
		if time.Since(looked) > 3*time.Second {
			looked = time.Now()
			for object := range objects {
				if _, err := s.Try("-n", namespace, "annotate", object, "--overwrite", fmt.Sprint("look=", looked.UnixNano())); err != nil {
					return err
				}
			}
		}
		for object, parts := range objects {
			all := s.history.of(namespace + " " + object)
			last := all[len(all)-1]
			if len(parts) == 1 && last != parts[0] || slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(last, part) }) {
				return fmt.Errorf("%s says %q, want %q", object, last, parts)
			}
		}
		return nil
	})
}

// went wants an object to have said so many things, one after the other, of which each is logged.
func (s *statuses) went(want int, namespace string, objects ...string) {
	s.t.Helper()
	for _, object := range objects {
		all := s.history.of(namespace + " " + object)
		s.t.Logf("%s %s said\n\t%s", namespace, object, strings.Join(all, "\n\t"))
		if len(all) != want {
			s.t.Errorf("%s %s said %d things, want %d", namespace, object, len(all), want)
		}
	}
}

// full has a bus that is full by what a source's own process publishes. Then it refuses http events too.
func (s *statuses) full() {
	s.t.Helper()
	const why = "EventBus full/default is full: nats: API error: code=503 err_code=10077 description=maximum bytes exceeded: make room or raise its limit"
	large := `"` + strings.Repeat("x", 10<<10) + `"`
	// A new stream keeps everything for half a minute, which need not be waited for.
	if err := s.streams["full"].DeleteConsumer(s.t.Context(), "openfunction-events", "openfunction~latecomers"); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		s.t.Fatal(err)
	}
	for range 12 {
		s.redis.Do("LPUSH", "jobs", large)
	}
	s.say("full", map[string][]string{
		"es/jobs": {good, "SourcesReady NotDelivered: redis event job: events are not taken: " + why, "BusReady Full: " + why}, "eb/default": {good, "Reachable Full: " + why},
		"es/web": {good}, "tg/t": {good},
	})
	s.posts("full/web/posted", large, http.StatusInsufficientStorage)
	s.say("full", map[string][]string{"es/web": {good, "SourcesReady NotDelivered: http event posted: events are not taken: " + why}})
	s.open()
	s.answers(time.Minute, "full/web/posted", http.StatusAccepted) // what subscriptions have taken the server removes a moment later
	s.say("full", map[string][]string{"es/jobs": {good}, "es/web": {good}, "eb/default": {good}})
	s.went(3, "full", "eb/default", "es/jobs", "es/web")
	s.went(1, "full", "tg/t")
}

// losing has the stream of events edited, and edited back.
func (s *statuses) losing() {
	s.t.Helper()
	edit := func(maxAge time.Duration) {
		s.t.Helper()
		stream, err := s.streams["losing"].Stream(s.t.Context(), "openfunction-events")
		if err != nil {
			s.t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		c.MaxAge = maxAge
		if _, err := s.streams["losing"].UpdateStream(s.t.Context(), c); err != nil {
			s.t.Fatal(err)
		}
	}
	const why = "stream openfunction-events loses events: with max_age 1h0m0s it drops what is older, delivered or not: nats stream edit openfunction-events --max-age 0s"
	edit(time.Hour)
	s.say("losing", map[string][]string{"eb/default": {good, "Reachable LosesEvents: " + why}, "tg/t": {good, "BusReady LosesEvents: " + why}})
	edit(0)
	s.say("losing", map[string][]string{"eb/default": {good}, "tg/t": {good}})
	s.went(3, "losing", "eb/default", "tg/t")
	s.went(1, "losing", "es/es")
}

// notDelivered has a sink that takes no events, and does so later.
func (s *statuses) notDelivered() {
	s.t.Helper()
	s.posts("refusing/es/posted", unique(), http.StatusAccepted)
	s.say("refusing", map[string][]string{"tg/t": {good, "SubscribersReady NotDelivered: events are not taken by sink http://", ": status 503"}})
	s.answer.Store(http.StatusOK)
	s.say("refusing", map[string][]string{"tg/t": {good}})
	s.went(3, "refusing", "tg/t")
}

// lost has an event that nobody takes whole.
func (s *statuses) lost() {
	s.t.Helper()
	for range 2 {
		s.posts("refusing/es/lost", fmt.Sprintf("%q", strings.Repeat("x", 4<<10)), http.StatusAccepted)
	}
	s.say("refusing", map[string][]string{"tg/loser": {
		good, "SubscribersReady NotDelivered: events are not taken by sink http://", ": status 400", ": an event was refused for good, and no dead letter has all of it: ",
		"more than the stream's max_msg_size: ", ": raise that limit or send less",
	}})
}

// issuerAway has an issuer that is not there, then one with a certificate of another authority, and then the right one.
func (s *statuses) issuerAway() {
	s.t.Helper()
	part := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	token := part(`{"alg":"ES256"}`) + "." + part(fmt.Sprintf(`{"iss":"https://%s","exp":99999999999}`, s.issuer)) + "." + part("signature")
	shows := func(want string) {
		s.t.Helper()
		if got := poster(s.ingress()+"refusing/guarded/posted", func() string { return "Bearer " + token })(s.t.Context(), "1"); !strings.HasPrefix(got, want) {
			s.t.Fatalf("answered %q, want %s", got, want)
		}
	}
	about := "SourcesReady Unreachable: the shared gateway: http event posted: auth.oidc.issuer https://" + s.issuer + " cannot be asked for its keys: get https://" + s.issuer + "/.well-known/openid-configuration: "
	says := func(why string) {
		s.t.Helper()
		s.say("refusing", map[string][]string{"es/guarded": {"Ready is False", about, why}})
	}
	shows("503 ")
	says("connection refused: see that the issuer answers there, or correct auth.oidc.issuer")
	s.answersAsIssuer()
	shows("503 ")
	says("signed by an authority that is not trusted: correct auth.oidc.caCertFrom")
	right, err := json.Marshal(map[string]any{"stringData": map[string]string{"ca.crt": s.authority.Cert}})
	if err == nil {
		_, err = s.Try("-n", "refusing", "patch", "secret", "issuer", "-p", string(right))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.say("refusing", map[string][]string{"es/guarded": {good}})
	shows("401 ") // it can be asked, and has not signed this
	s.went(4, "refusing", "es/guarded")
}

// answersAsIssuer does so where the issuer is to be.
func (s *statuses) answersAsIssuer() {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	url := "https://" + s.issuer
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig"}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": url, "jwks_uri": url + "/keys"})
	}))
	_ = server.Listener.Close()
	s.eventually(time.Minute, "listen at "+s.issuer, func() (err error) {
		server.Listener, err = net.Listen("tcp", s.issuer)
		return err
	})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{s.authority.Server().Pair(s.t)}}
	server.StartTLS()
	s.t.Cleanup(server.Close)
}
