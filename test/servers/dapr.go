package servers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Dapr is a Component of Dapr, in Dapr's own code but without its sidecar. Its methods fail the test that made it.
type Dapr struct {
	t      testing.TB
	binary string
	file   string
	env    []string
}

// NewDapr returns the Component in documents, which are YAML and may have more: the Secrets that it names, and other Components for Check.
// Those of NATS Streaming are never together with others, since there are none of them any more in the versions of today.
func NewDapr(t testing.TB, documents string, env ...string) *Dapr {
	t.Helper()
	d := &Dapr{t: t, file: filepath.Join(t.TempDir(), "component.yaml"), env: env}
	if strings.Contains(documents, "pubsub.natsstreaming") {
		d.binary = Build(t, "third_party/dapr/natsstreaming", ".", "dapr-natsstreaming")
	} else {
		d.binary = Build(t, "third_party/dapr", ".", "dapr")
	}
	if err := os.WriteFile(d.file, []byte(documents), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *Dapr) command(args ...string) *exec.Cmd {
	cmd := exec.Command(d.binary, args...)
	cmd.Env = append(os.Environ(), d.env...)
	return cmd
}

// Check starts all Components, and returns what that said of each: "ok" if it is connected.
func (d *Dapr) Check() map[string]string {
	d.t.Helper()
	var stderr bytes.Buffer
	cmd := d.command("check", d.file)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("dapr check: %v\n%s", err, &stderr)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, what, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			said[name] = what
		}
	}
	return said
}

// Publish publishes data as an application's sidecar does: within a CloudEvent, unless the content type says that data is one.
func (d *Dapr) Publish(topic, contentType, data string) {
	d.t.Helper()
	cmd := d.command("publish", d.file, topic, contentType)
	cmd.Stdin = strings.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("dapr publish on %s: %v\n%s", topic, err, out)
	}
}

// DaprMessage is what the sidecar posts to its application: a body, and headers.
type DaprMessage struct {
	Event    json.RawMessage   `json:"event"`
	Metadata map[string]string `json:"metadata"`
}

// DaprSubscription receives and acknowledges messages until the test ends.
type DaprSubscription struct {
	t       testing.TB
	process *Process
}

// Subscribe subscribes to a topic. Raw is the metadata rawPayload: the message's data become those of a CloudEvent, which else they have to be.
// The members of a group of Kafka may not have their partitions yet when it returns.
func (d *Dapr) Subscribe(topic string, raw bool) *DaprSubscription {
	d.t.Helper()
	args := []string{"subscribe", d.file, topic}
	if raw {
		args = append(args, "raw")
	}
	cmd := d.command(args...)
	return &DaprSubscription{d.t, StartProcess(d.t, cmd, func() error {
		if out := fmt.Sprint(cmd.Stdout); !strings.Contains(out, "dapr: subscribed\n") {
			return errors.New("it has not subscribed")
		}
		return nil
	})}
}

// Messages are those received so far.
func (s *DaprSubscription) Messages() []DaprMessage {
	s.t.Helper()
	var all []DaprMessage
	for line := range strings.Lines(s.process.Output()) {
		if !strings.HasPrefix(line, `{"event":`) || !strings.HasSuffix(line, "\n") {
			continue
		}
		var m DaprMessage
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			s.t.Fatalf("line %q of dapr subscribe: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

// Process is the one that has subscribed.
func (s *DaprSubscription) Process() *Process { return s.process }
