package standalone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"knative.dev/pkg/logging"
)

// output is a writer whose text can be waited for.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wait returns the groups of the first match.
func (o *output) wait(t *testing.T, pattern string) []string {
	t.Helper()
	expression := regexp.MustCompile("(?m)" + pattern)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if m := expression.FindStringSubmatch(o.String()); m != nil {
			return m
		}
	}
	t.Fatalf("no %q in:\n%s", pattern, o.String())
	return nil
}

type process struct {
	stdout, stderr output
}

// start runs what the files declare; when the test is over, it ends that and wants it to have ended well.
func start(t *testing.T, o Options) *process {
	t.Helper()
	p := &process{}
	o.Listen, o.JSON, o.Stdout, o.Stderr = "127.0.0.1:0", true, &p.stdout, &p.stderr
	if o.Sinks == nil {
		o.Sinks = &Sinks{}
	}
	if o.Addresses == nil {
		o.Addresses = &Addresses{}
	}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&p.stderr), zap.InfoLevel)
	ctx, cancel := context.WithCancel(logging.WithLogger(t.Context(), zap.New(core).Sugar()))
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return p
}

func post(t *testing.T, url, body string) int {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestRunOfTheQuickstart(t *testing.T) {
	sample, err := os.ReadFile("../../config/samples/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "quickstart.yaml")
	write(t, file, string(sample))
	sinks, err := ParseSinks([]string{"a/unused=http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, Options{Paths: []string{file}, Sinks: sinks})
	base := p.stderr.wait(t, `^listening on (http://127\.0\.0\.1:\d+)$`)[1]
	p.stderr.wait(t, `^warning: --sink a/unused: no object refers to it; others are default/clock, default/orders$`)
	p.stderr.wait(t, `^try: curl -d '\{"hello":"world"\}' -H 'content-type: application/json' `+base+`/default/es/event$`)
	if got := post(t, base+"/default/es/event", `{"hello":"world"}`); got != http.StatusAccepted {
		t.Errorf("POST = %d, want 202", got)
	}
	p.stdout.wait(t, `^\{"trigger":"default/quickstart","to":"sink default/orders","event":\{.*"data":\{"hello":"world"\}\}\}$`)
	p.stdout.wait(t, `^\{"trigger":"default/quickstart","to":"sink default/clock","event":`)
	p.stdout.wait(t, `^\{"trigger":"default/quickstart","to":"topic matched","event":`)

	write(t, file, strings.Replace(string(sample), "condition: posted\n", "condition: pasted\n", 1))
	p.stderr.wait(t, `Trigger default/quickstart: spec\.subscribers\[1\]\.condition: .*unknown input "pasted"`)
	p.stderr.wait(t, `^not applied, the state before goes on; mistakes: 1$`)
	if got := post(t, base+"/default/es/event", `{"still":"here"}`); got != http.StatusAccepted {
		t.Errorf("POST after a bad change = %d, want 202", got)
	}
	p.stdout.wait(t, `"to":"sink default/orders".*"data":\{"still":"here"\}`)

	write(t, file, strings.ReplaceAll(strings.Replace(string(sample), "    event:\n", "    second:\n", 1), "event: event", "event: second"))
	p.stderr.wait(t, `^applied: 2 sources, 3 subscribers$`)
	if got := post(t, base+"/default/es/second", `{"after":"change"}`); got != http.StatusAccepted {
		t.Errorf("POST after a good change = %d, want 202", got)
	}
	p.stdout.wait(t, `"to":"sink default/orders".*"data":\{"after":"change"\}`)
}

func TestRunKeepsItsStateWhileFilesComeAndGo(t *testing.T) {
	sample, err := os.ReadFile("../../config/samples/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "quickstart.yaml")
	write(t, file, string(sample))
	p := start(t, Options{Paths: []string{file}})
	base := p.stderr.wait(t, `^listening on (http://127\.0\.0\.1:\d+)$`)[1]
	steps := []struct {
		name   string
		change func()
		want   string
	}{
		{"emptied", func() { write(t, file, "") }, `^not applied, the state before goes on: no EventSource, EventBus, ClusterEventBus or Trigger there$`},
		{"gone", func() { _ = os.Remove(file) }, `quickstart\.yaml: no such file or directory\nnot applied, the state before goes on; mistakes: 1$`},
		{"binary", func() { write(t, file, "\xff\x00") }, `quickstart\.yaml: is not text in UTF-8\nnot applied`},
		{"without its bus", func() { write(t, file, strings.SplitN(string(sample), "\n---\n", 2)[1]) }, `spec\.eventBus: no EventBus "default".*\n.*\nnot applied`},
		{"with another bus", func() {
			write(t, file, strings.Replace(string(sample), "embedded: {}", "embedded: {maxBytes: 104857600}", 1))
		},
			`^not applied, the state before goes on: EventBus default/default: an embedded bus cannot be changed while it runs`},
		{"replaced by a file that was written elsewhere", func() {
			write(t, file+"~", strings.Replace(string(sample), "name: clock", "name: watch", 1))
			if err := os.Rename(file+"~", file); err != nil {
				t.Fatal(err)
			}
		}, `^applied: 2 sources, 3 subscribers$`},
	}
	for _, s := range steps {
		s.change()
		p.stderr.wait(t, s.want)
		if got := post(t, base+"/default/es/event", `{"after":"`+s.name+`"}`); got != http.StatusAccepted {
			t.Errorf("%s: POST = %d, want 202", s.name, got)
		}
		p.stdout.wait(t, `"to":"sink default/orders".*"after":"`+s.name+`"`)
	}
}

func TestRunAddsTheBusThatNoFileDeclares(t *testing.T) {
	file := []string{"../../config/samples/sample-5-conditions.yaml"}
	p := start(t, Options{Paths: file, Embedded: true})
	p.stderr.wait(t, `^embedded bus stands for EventBus default, which no file declares$`)
	p.stderr.wait(t, `^listening on `)
	var stdout, stderr output
	err := Run(t.Context(), Options{Paths: file, Listen: "127.0.0.1:0", Sinks: &Sinks{}, Addresses: &Addresses{}, Stdout: &stdout, Stderr: &stderr})
	if err == nil || !strings.HasSuffix(err.Error(), "\nhint: --embedded runs a bus named default in this process when no file declares one") {
		t.Errorf("Run() without embedded servers = %v, want a hint", err)
	}
}

func TestRunUsesABrokerThatAnswers(t *testing.T) {
	p := start(t, Options{Paths: []string{"../../config/samples/sample-3-multi.yaml"}, Embedded: true})
	kafka := p.stderr.wait(t, `^embedded kafka stands for dapr-kafka\.kafka:9092 at (127\.0\.0\.1:\d+)$`)[1]
	addresses, err := ParseAddresses([]string{"dapr-kafka.kafka:9092=" + kafka})
	if err != nil {
		t.Fatal(err)
	}
	q := start(t, Options{Paths: []string{"../../config/samples/sample-3-multi.yaml"}, Embedded: true, Addresses: addresses})
	q.stderr.wait(t, `^kafka at dapr-kafka\.kafka:9092 answers: no embedded one stands for it$`)
	q.stderr.wait(t, `^listening on `)
	if strings.Contains(q.stderr.String(), "embedded kafka") {
		t.Errorf("an embedded server was started:\n%s", q.stderr.String())
	}
}

func TestRunEndsWhenItsReaderHasGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_ = r.Close()
	var stderr output
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), Options{Paths: []string{"../../config/samples/quickstart.yaml"}, Listen: "127.0.0.1:0",
			Sinks: &Sinks{}, Addresses: &Addresses{}, Stdout: w, Stderr: &stderr})
	}()
	base := stderr.wait(t, `^listening on (http://127\.0\.0\.1:\d+)$`)[1]
	post(t, base+"/default/es/event", "{}")
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run() = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Run() goes on")
	}
}

func TestRunSharesItsDataWithNobody(t *testing.T) {
	dir := t.TempDir()
	file := []string{"../../config/samples/quickstart.yaml"}
	p := start(t, Options{Paths: file, DataDir: dir})
	p.stderr.wait(t, `^listening on `)
	var stdout, stderr output
	err := Run(t.Context(), Options{Paths: file, Listen: "127.0.0.1:0", DataDir: dir, Sinks: &Sinks{}, Addresses: &Addresses{}, Stdout: &stdout, Stderr: &stderr})
	if err == nil || !strings.Contains(err.Error(), "is used by the process ") {
		t.Errorf("Run() with the same directory = %v", err)
	}
}

// A bus with another name is another bus: what waits in the one before would be forgotten.
func TestRunTellsOfABusThatIsLeftBehind(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "a.yaml")
	named := func(bus string) string {
		return `apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: ` + bus + `}
spec: {embedded: {}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es}
spec:
  eventBus: ` + bus + `
  http: {e: {raw: true}}
`
	}
	left := "^warning: " + regexp.QuoteMeta(filepath.Join(dir, "bus", "EventBus_default_one")) + ": has the events of an embedded bus that no file declares"
	t.Run("while it runs", func(t *testing.T) {
		write(t, file, named("one"))
		p := start(t, Options{Paths: []string{file}, DataDir: dir})
		p.stderr.wait(t, `^listening on `)
		if strings.Contains(p.stderr.String(), "warning: ") {
			t.Errorf("it warns of a bus that runs:\n%s", p.stderr.String())
		}
		write(t, file, named("two"))
		p.stderr.wait(t, left)
	})
	t.Run("at the start", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: dir})
		p.stderr.wait(t, left)
		p.stderr.wait(t, `^listening on `)
	})
}

func TestRunWithEmbeddedServers(t *testing.T) {
	p := start(t, Options{Paths: []string{"../../config/samples/sample-2-bus-and-trigger.yaml"}, Embedded: true})
	p.stderr.wait(t, `^listening on `)
	p.stderr.wait(t, `^embedded natsStreaming stands for nats\.default:4222 at 127\.0\.0\.1:\d+$`)
	kafka := p.stderr.wait(t, `^embedded kafka stands for dapr-kafka\.kafka:9092 at (127\.0\.0\.1:\d+)$`)[1]
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer([]string{kafka}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "sample", Value: sarama.StringEncoder(`{"hello":"kafka"}`)}); err != nil {
		t.Fatal(err)
	}
	p.stdout.wait(t, `^\{"trigger":"default/my-trigger","to":"sink default/function-sample-serving-qrdx8-ksvc-fwml8","event":.*kafka`)
	p.stdout.wait(t, `^\{"trigger":"default/my-trigger","to":"topic metrics","event":.*kafka`)
}

func TestRunWithAnEmbeddedKafkaAsTheBus(t *testing.T) {
	sample, err := os.ReadFile("../../config/samples/quickstart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kafka.yaml")
	write(t, file, strings.Replace(string(sample), "  embedded: {}\n", `  kafka:
    brokers: kafka.kafka:9092,kafka-1.kafka:9092
    replicationFactor: 3
    authRequired: true
    saslUsername: u
    saslPasswordFrom: {name: kafka, key: password}
---
apiVersion: v1
kind: Secret
metadata:
  name: kafka
stringData:
  password: p
`, 1))
	addresses, err := ParseAddresses([]string{"kafka-1.kafka:9092=127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, Options{Paths: []string{file}, Embedded: true, Addresses: addresses})
	p.stderr.wait(t, `^embedded kafka stands for kafka\.kafka:9092, kafka-1\.kafka:9092 at 127\.0\.0\.1:\d+$`)
	base := p.stderr.wait(t, `^listening on (http://\S+)$`)[1]
	if got := post(t, base+"/default/es/event", `{"hello":"kafka"}`); got != http.StatusAccepted {
		t.Errorf("POST = %d, want 202", got)
	}
	p.stdout.wait(t, `"to":"sink default/orders".*"data":\{"hello":"kafka"\}`)
	if strings.Contains(p.stderr.String(), "no object names it") {
		t.Errorf("stderr:\n%s", &p.stderr)
	}
}

func TestRunStartsNothingOfWhatCannotWork(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "t.yaml", `apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec:
  eventBus: shared
  inputs:
    a: {eventSource: es, event: e}
  subscribers:
  - condition: a
    topic: metrics
`)
	var stdout, stderr output
	err := Run(t.Context(), Options{Paths: []string{"t.yaml"}, Listen: "127.0.0.1:0", Sinks: &Sinks{}, Addresses: &Addresses{}, Embedded: true, Stdout: &stdout, Stderr: &stderr})
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok {
		t.Fatalf("Run() = %v, want an InvalidError", err)
	}
	for _, want := range []string{`t.yaml:5: Trigger default/t: spec.eventBus: no EventBus "shared"`, `t.yaml:7: Trigger default/t: spec.inputs[a].eventSource: no EventSource default/es`} {
		if !strings.Contains(invalid.Error(), want) {
			t.Errorf("Run() = %v\nwant %s", invalid, want)
		}
	}
	if got := stdout.String() + stderr.String(); got != "" {
		t.Errorf("Run() printed %q", got)
	}
}

func TestRunThatIsToldToEndWhileItStarts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ctx, Options{
		Paths: []string{"../../config/samples/sample-3-multi.yaml"}, Embedded: true, Listen: "127.0.0.1:0", Sinks: &Sinks{}, Addresses: &Addresses{}, Stdout: io.Discard, Stderr: io.Discard,
	})
	if err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}
