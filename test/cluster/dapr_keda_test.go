//go:build e2e

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	daprKind = "components.dapr.io"
	kedaKind = "scaledobjects.keda.sh"
	// password is in a Secret, and must not be anywhere else.
	password = "p4ssw0rd-of-the-secret"
	// noStreams makes an API server refuse to stream lists, so that informers list first, as they do where that is switched off.
	noStreams = "--feature-gates=WatchList=false"
)

// TestE2EDaprAndKEDA gives the cluster the kinds of Dapr and KEDA, and takes them away again, while the samples run.
func TestE2EDaprAndKEDA(t *testing.T) {
	i := install(t, noStreams)
	kafka, _ := i.brokers()
	kafka.CreateTopic("sample", 2)
	i.defineKnative()
	s := newSink(t)
	for _, name := range []string{sampleSink, "function-sample-serving-x6qjw-ksvc-x72j7"} {
		i.knativeService("default", name, s.URL)
	}
	busAndTrigger := []string{"es/my-eventsource", "tg/my-trigger", "eb/default"}
	i.Kubectl("apply", "-f", "../../config/samples/sample-2-bus-and-trigger.yaml")
	i.ready(time.Minute, busAndTrigger...)

	t.Run("the kinds come while the samples run", func(t *testing.T) {
		i := i.in(t)
		i.defineDaprAndKEDA()
		i.has(daprKind, sample2Components...)
		i.has(kedaKind)
		i.shows("es", `my-eventsource +default +Running +2/2 +1/1`)
		i.shows("tg", `my-trigger +default +Running +2/2 +1/1`)
	})
	t.Run("every scale option arrives", func(t *testing.T) {
		i := i.in(t)
		i.Kubectl("patch", "es", "my-eventsource", "--type=merge", "-p", scaleKafka)
		i.Kubectl("patch", "eb", "default", "--type=merge", "-p", scaleNATS)
		i.has(kedaKind, "eventsource-my-eventsource-kafka-sample-two", "trigger-my-trigger")
		i.specIs("eventsource-my-eventsource-kafka-sample-two", scaledKafka)
		i.specIs("trigger-my-trigger", scaledNATS)
		i.ready(time.Minute, busAndTrigger...)
		i.touch("eventbuses", "eventsources", "triggers")
	})
	t.Run("children that lose their label get it back", func(t *testing.T) {
		i.in(t).relabels("default", daprKind+"/eventsource-my-eventsource-kafka-sample-two", kedaKind+"/eventsource-my-eventsource-kafka-sample-two")
	})
	t.Run("a Component goes with what it is for", func(t *testing.T) {
		i := i.in(t)
		i.Kubectl("patch", "es", "my-eventsource", "--type=merge", "-p", fmt.Sprintf(`{"spec": {"sink": {"uri": %q}}}`, s.URL))
		i.has(daprKind, append([]string{"eventsource-sink-my-eventsource"}, sample2Components...)...)
		i.Kubectl("patch", "es", "my-eventsource", "--type=merge", "-p", `{"spec": {"sink": null}}`)
		i.has(daprKind, sample2Components...)
	})
	t.Run("who scales is left alone", func(t *testing.T) {
		i := i.in(t)
		deployments := []string{"eventsource-my-eventsource-kafka-sample-two", "trigger-my-trigger"}
		for _, name := range deployments {
			i.Kubectl("scale", "deployment", name, "--replicas=2")
			i.Kubectl("rollout", "status", "deployment", name, "--timeout=60s")
		}
		keeps := func(n int) {
			t.Helper()
			i.ready(time.Minute, busAndTrigger...)
			for _, name := range deployments {
				if got := i.Kubectl("get", "deployment", name, "-o", "jsonpath={.spec.replicas}"); got != fmt.Sprint(n) {
					t.Errorf("Deployment %s has %s replicas, want the %d that it was scaled to", name, got, n)
				}
			}
		}
		keeps(2)
		i.Kubectl("patch", "es", "my-eventsource", "--type=merge", "-p", `{"spec": {"logLevel": "debug"}}`)
		i.Kubectl("patch", "tg", "my-trigger", "--type=merge", "-p", `{"spec": {"logLevel": "debug"}}`)
		for _, name := range deployments {
			i.eventually(60*time.Second, name+" with the changed spec", func() error {
				if out := i.Kubectl("get", "deployment", name, "-o", "json"); !strings.Contains(out, `"value": "debug"`) {
					return fmt.Errorf("it is as it was")
				}
				return nil
			})
			i.Kubectl("rollout", "status", "deployment", name, "--timeout=60s")
		}
		keeps(2)
		i.Kubectl("-n", "openfunction", "delete", "pod", "-l", "app.kubernetes.io/component=controller") // the next one looks at everything
		i.Kubectl("-n", "openfunction", "rollout", "status", "deployment", "events-controller", "--timeout=60s")
		i.Kubectl("patch", "es", "my-eventsource", "--type=merge", "-p", `{"spec": {"kafka": {"sample-two": {"maxMessageBytes": 2048}}}}`)
		i.Kubectl("patch", "tg", "my-trigger", "--type=merge", "-p", `{"spec": {"window": "30s"}}`)
		keeps(2)
		i.flows(kafka, s, 5)
	})
	t.Run("without a scale option nobody scales", func(t *testing.T) {
		i := i.in(t)
		i.Kubectl("patch", "es", "my-eventsource", "--type=merge", "-p", `{"spec": {"kafka": {"sample-two": {"scaleOption": null}}}}`)
		i.Kubectl("patch", "eb", "default", "--type=merge", "-p", `{"spec": {"natsStreaming": {"scaleOption": null}}}`)
		i.has(kedaKind)
		for _, name := range []string{"eventsource-my-eventsource-kafka-sample-two", "trigger-my-trigger"} {
			i.eventually(60*time.Second, "one replica of "+name, func() error {
				if got := i.Kubectl("get", "deployment", name, "-o", "jsonpath={.spec.replicas}"); got != "1" {
					return fmt.Errorf("there are %s", got)
				}
				return nil
			})
		}
		i.ready(time.Minute, busAndTrigger...)
	})
	t.Run("a secret is referred to, not copied", func(t *testing.T) { i.in(t).keepsSecrets() })
	t.Run("the kinds go, and come back", func(t *testing.T) {
		i := i.in(t)
		i.Kubectl("delete", "crd", daprKind, kedaKind, "--timeout=60s")
		i.Kubectl("patch", "tg", "my-trigger", "--type=merge", "-p", `{"spec": {"window": "40s"}}`)
		i.ready(time.Minute, busAndTrigger...)
		i.flows(kafka, s, 5)
		i.Kubectl("patch", "es", "my-eventsource", "--type=merge", "-p", scaleKafka)
		i.ready(time.Minute, busAndTrigger...)
		i.defineDaprAndKEDA()
		i.has(daprKind, sample2Components...)
		i.has(kedaKind, "eventsource-my-eventsource-kafka-sample-two")
		i.flows(kafka, s, 5)
	})
	for _, sample := range []struct {
		file       string
		objects    []string
		components []string
	}{
		{"sample-2-bus-and-trigger.yaml", busAndTrigger, sample2Components},
		{"sample-1-sink.yaml", []string{"es/my-eventsource"}, []string{"eventsource-my-eventsource-kafka-sample-one", "eventsource-sink-my-eventsource"}},
		{"sample-3-multi.yaml", []string{"es/my-eventsource"}, []string{
			"eventsource-my-eventsource-cron-sample-three", "eventsource-my-eventsource-kafka-sample-three", "eventsource-sink-my-eventsource",
		}},
		{"sample-4-clustereventbus.yaml", []string{"ceb/default"}, nil},
		{"sample-5-conditions.yaml", []string{"es/eventsource-a", "es/eventsource-b", "tg/condition-trigger"}, []string{
			"eventbus-eventsource-eventsource-a", "eventbus-eventsource-eventsource-b", "eventbus-trigger-condition-trigger",
			"eventsource-eventsource-a-kafka-sample-five", "eventsource-eventsource-b-cron-sample-five",
			"trigger-sink-condition-trigger-default-" + sampleSink,
		}},
	} {
		t.Run(sample.file, func(t *testing.T) {
			i := i.in(t)
			i.Kubectl("apply", "-f", "../../config/samples/"+sample.file)
			i.ready(time.Minute, sample.objects...)
			i.has(daprKind, sample.components...)
			if sample.file == "sample-4-clustereventbus.yaml" { // which is the bus of the next
				return
			}
			i.Kubectl("delete", "eventsources,triggers", "--all")
			i.has(daprKind)
			i.Kubectl("delete", "eventbuses", "--all")
		})
	}
}

// sample2Components are named as those who use them expect.
var sample2Components = []string{
	"eventbus-eventsource-my-eventsource", "eventbus-trigger-my-trigger", "eventsource-my-eventsource-kafka-sample-two",
	"trigger-sink-my-trigger-default-" + sampleSink,
}

const (
	scaleKafka = `{"spec": {"kafka": {"sample-two": {"scaleOption": {
		"pollingInterval": 11, "cooldownPeriod": 12, "minReplicaCount": 1, "maxReplicaCount": 3,
		"advanced": {"restoreToOriginalReplicaCount": true, "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 13}}}},
		"metadata": {"allowIdleConsumers": "true"}, "authRef": {"name": "kafka", "kind": "ClusterTriggerAuthentication"},
		"lagThreshold": "14", "topic": "watched-topic", "consumerGroup": "watched-group"}}}}}`
	scaledKafka = `
pollingInterval: 11
cooldownPeriod: 12
minReplicaCount: 1
maxReplicaCount: 3
advanced: {restoreToOriginalReplicaCount: true, horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 13}}}}
scaleTargetRef: {name: eventsource-my-eventsource-kafka-sample-two}
triggers:
- type: kafka
  authenticationRef: {name: kafka, kind: ClusterTriggerAuthentication}
  metadata: {allowIdleConsumers: "true", bootstrapServers: "dapr-kafka.kafka:9092", topic: watched-topic, consumerGroup: watched-group, lagThreshold: "14"}
`
	scaleNATS = `{"spec": {"natsStreaming": {"scaleOption": {
		"pollingInterval": 21, "cooldownPeriod": 22, "minReplicaCount": 1, "maxReplicaCount": 4,
		"advanced": {"restoreToOriginalReplicaCount": true, "horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"selectPolicy": "Max"}}}},
		"metadata": {"useHttps": "false"}, "authRef": {"name": "stan"},
		"natsServerMonitoringEndpoint": "nats.default:8222", "lagThreshold": "23",
		"queueGroup": "watched-group", "durableName": "watched-durable", "subject": "watched-subject"}}}}`
	scaledNATS = `
pollingInterval: 21
cooldownPeriod: 22
minReplicaCount: 1
maxReplicaCount: 4
advanced: {restoreToOriginalReplicaCount: true, horizontalPodAutoscalerConfig: {behavior: {scaleUp: {selectPolicy: Max}}}}
scaleTargetRef: {name: trigger-my-trigger}
triggers:
- type: stan
  authenticationRef: {name: stan}
  metadata:
    {useHttps: "false", natsServerMonitoringEndpoint: "nats.default:8222", lagThreshold: "23", queueGroup: watched-group, durableName: watched-durable,
     subject: watched-subject}
`
)

func (i *installation) defineDaprAndKEDA() {
	i.t.Helper()
	i.Kubectl("apply", "-f", "testdata/dapr.yaml", "-f", "testdata/keda.yaml")
	i.DeleteAfter("crd", daprKind, kedaKind)
	i.Kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/"+daprKind, "crd/"+kedaKind)
}

// has waits until the objects of a kind in the namespace default are these.
func (i *installation) has(kind string, names ...string) {
	i.t.Helper()
	slices.Sort(names)
	// An owner's children are collected some time after the collector has heard of their kind.
	i.eventually(2*time.Minute, kind, func() error {
		out, err := i.Try("get", kind, "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(names, strings.Fields(out)); diff != "" && len(names)+len(out) > 0 {
			return fmt.Errorf("names (-want, +got):\n%s", diff)
		}
		return nil
	})
}

// specIs wants a ScaledObject to say exactly this.
func (i *installation) specIs(name, want string) {
	i.t.Helper()
	var wanted any
	if err := yaml.Unmarshal([]byte(want), &wanted); err != nil {
		i.t.Fatal(err)
	}
	i.eventually(60*time.Second, "ScaledObject "+name, func() error {
		var got struct{ Spec any }
		if err := json.Unmarshal([]byte(i.Kubectl("get", kedaKind, name, "-o", "json")), &got); err != nil {
			return err
		}
		if diff := cmp.Diff(wanted, got.Spec); diff != "" {
			return fmt.Errorf("spec (-want, +got):\n%s", diff)
		}
		return nil
	})
}

// keepsSecrets declares what reads a Secret, and looks for its value.
func (i *installation) keepsSecrets() {
	i.t.Helper()
	i.namespace("secretive")
	i.Kubectl("-n", "secretive", "create", "secret", "generic", "s", "--from-literal=password="+password)
	i.applyIn("secretive", `{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default},
		spec: {jetStream: {url: "nats://nowhere.secretive:4222", tokenFrom: {name: s, key: password}}}}`)
	i.applyIn("secretive", `{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: es}, spec: {
		http: {
			bearer: {auth: {bearer: {tokenFrom: {name: s, key: password}}}},
			basic: {auth: {basic: {username: u, passwordFrom: {name: s, key: password}}}},
			hub: {raw: true, type: hub, auth: {hmac: {scheme: github, secretFrom: {name: s, key: password}}}}},
		mqtt: {m: {url: "tcp://nowhere.secretive:1883", topic: m, username: u, passwordFrom: {name: s, key: password}}},
		kafka: {k: {brokers: "nowhere.secretive:9092", authRequired: true, saslUsername: u, saslPasswordFrom: {name: s, key: password}, scaleOption: {lagThreshold: "1", minReplicaCount: 0}}},
		redis: {r: {redisHost: "nowhere.secretive:6379", redisPasswordFrom: {name: s, key: password}, stream: s}}}}`)
	i.applyIn("secretive", `{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t}, spec: {
		inputs: {k: {eventSource: es, event: k}}, subscribers: [{condition: k, topic: out}]}}`)
	i.eventually(30*time.Second, "references to the Secret", func() error {
		for name, setting := range map[string]string{
			"eventbus-eventsource-es": "token", "eventsource-es-kafka-k": "saslPassword", "eventsource-es-redis-r": "redisPassword", "eventbus-trigger-t": "token",
		} {
			out, err := i.Try("-n", "secretive", "get", daprKind, name, "-o",
				`jsonpath={.auth.secretStore} {.spec.metadata[?(@.name=="`+setting+`")].secretKeyRef.name} {.spec.metadata[?(@.name=="`+setting+`")].secretKeyRef.key}`)
			if err != nil {
				return err
			}
			if want := "kubernetes s password"; out != want {
				return fmt.Errorf("%s of %s: %q, want %q", setting, name, out, want)
			}
		}
		_, err := i.Try("-n", "secretive", "get", kedaKind, "eventsource-es-kafka-k")
		return err
	})
	logs := map[string]string{}
	for _, of := range []string{"openfunction events-controller", "openfunction events-gateway", "openfunction events-webhook", "secretive eventsource-es-kafka-k", "secretive trigger-t"} {
		namespace, name, _ := strings.Cut(of, " ")
		i.eventually(time.Minute, "a log of "+name, func() error {
			out, err := i.Try("-n", namespace, "logs", "deployment/"+name, "--tail=-1")
			if err == nil && strings.TrimSpace(out) == "" {
				err = errors.New("it is empty")
			}
			logs[name] = out
			return err
		})
	}
	for _, kind := range []string{
		daprKind, kedaKind, "deployments", "replicasets", "statefulsets", "controllerrevisions", "services", "pods", "events", "configmaps", "roles", "eventbuses", "eventsources", "triggers",
	} {
		if strings.Contains(i.Kubectl("get", kind, "-A", "-o", "yaml"), password) {
			i.t.Errorf("a password is in the %s", kind)
		}
	}
	for name, text := range logs {
		if strings.Contains(text, password) {
			i.t.Errorf("a password is in the log of %s", name)
		}
	}
	i.Kubectl("delete", "namespace", "secretive", "--wait=false")
}
