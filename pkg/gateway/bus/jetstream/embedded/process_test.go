//go:build e2e

package embedded

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccesstest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

const ackWait = 2 * time.Second

// members are the processes of one bus. They keep their ports and their data.
type members struct {
	t         testing.TB
	access    *Access
	binary    string
	accessDir string
	all       []*member
}

type member struct {
	process                *servers.Process
	dir                    string
	client, cluster, admin string
}

// newMembers starts n servers that live until the test ends.
func newMembers(t testing.TB, n int) *members {
	t.Helper()
	var dirs []string
	for range n {
		dirs = append(dirs, t.TempDir())
	}
	return newMembersIn(t, dirs...)
}

// newMembersIn starts a server in each directory.
func newMembersIn(t testing.TB, dirs ...string) *members {
	t.Helper()
	m := &members{t: t, access: newAccess(t, "the password of a test"), binary: servers.Build(t, ".", "./cmd/bus", "bus"), accessDir: t.TempDir()}
	m.writeAccess()
	for _, dir := range dirs {
		m.all = append(m.all, &member{dir: dir, client: servers.FreeAddress(t), cluster: servers.FreeAddress(t), admin: servers.FreeAddress(t)})
	}
	m.start()
	return m
}

func (m *members) writeAccess() {
	m.t.Helper()
	a := m.access
	for name, value := range map[string]string{"username": a.Username, "password": a.Password, "ca.crt": a.CACerts, "tls.crt": a.Cert, "tls.key": a.Key} {
		if err := os.WriteFile(filepath.Join(m.accessDir, name), []byte(value), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

// start starts all and returns when all are ready.
func (m *members) start() {
	m.t.Helper()
	for i := range m.all {
		m.startOne(i)
	}
	for i := range m.all {
		m.await(i)
	}
}

func (m *members) startOne(i int) {
	m.t.Helper()
	it, cluster := m.all[i], ""
	var routes []string
	if len(m.all) > 1 {
		cluster = "test"
		for _, other := range m.all {
			routes = append(routes, other.cluster)
		}
	}
	cmd := exec.Command(m.binary)
	cmd.Env = append(os.Environ(), "POD_NAME=b-"+strconv.Itoa(i), "DATA_DIR="+it.dir, "ACCESS_DIR="+m.accessDir, "CLUSTER="+cluster,
		"MEMBERS="+strings.Join(routes, ","), "LISTEN="+it.client, "CLUSTER_LISTEN="+it.cluster, "ADMIN_LISTEN="+it.admin)
	it.process = servers.StartProcess(m.t, cmd, servers.Listening(it.admin))
}

// await returns when a member says that it is ready.
func (m *members) await(i int) {
	m.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = probe(m.all[i].admin, "readyz"); err == nil {
			return
		}
	}
	m.t.Fatalf("member %d is not ready: %v\n%s", i, err, m.all[i].process.Output())
}

func probe(address, path string) error {
	answer, err := http.Get("http://" + address + "/" + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

func (m *members) kill() {
	for _, it := range m.all {
		it.process.Kill()
	}
}

func (m *members) url() string {
	var urls []string
	for _, it := range m.all {
		urls = append(urls, "tls://"+it.client)
	}
	return strings.Join(urls, ",")
}

func (m *members) bus() bus.Bus { return m.busAs(context.Background(), m.right()) }

func (m *members) right() plan.NATSAccess {
	return plan.NATSAccess{Username: m.access.Username, Password: m.access.Password, TLS: &plan.TLS{CACerts: m.access.CACerts}}
}

func (m *members) busAs(ctx context.Context, a plan.NATSAccess) bus.Bus {
	return jetstream.New(ctx, jetstream.Options{Name: "EventBus test/test", Config: plan.JetStream{
		URL: m.url(), Replicas: len(m.all), AckWait: ackWait, NATSAccess: a,
	}})
}

func (m *members) connect(t testing.TB) *nats.Conn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(m.access.CACerts))
	nc, err := nats.Connect(m.url(), nats.UserInfo(m.access.Username, m.access.Password), nats.Secure(&tls.Config{RootCAs: roots}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Servers as they run in a cluster, alone and three together. The one is killed with SIGKILL, as the suite wants; three take ten seconds to
// agree after that, each time, so what becomes of them is TestE2EKill.
func TestE2EConformance(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d", n), func(t *testing.T) {
			t.Parallel()
			m := newMembers(t, n)
			f := bustest.Fixture{
				New:     func(testing.TB) bus.Bus { return m.bus() },
				AckWait: ackWait,
				PublishRaw: func(t testing.TB, topic string, data []byte) {
					if _, err := m.connect(t).Request(topic, data, 5*time.Second); err != nil {
						t.Fatalf("publish to %s: %v", topic, err)
					}
				},
				Dedup:    true,
				Refusals: natsaccesstest.Refusals(t, m.right(), servers.NewAuthority(t).Cert, m.busAs),
			}
			if n == 1 {
				f.Stop, f.Start, f.Outage = func(testing.TB) { m.kill() }, func(testing.TB) { m.start() }, 20*time.Second
			}
			bustest.Run(t, f)
		})
	}
}

// component is what docs/spec/eventbus.md says to make, with the Secret that it names: URL has the user and the password.
const component = `
kind: Component
metadata: {name: bus}
spec:
  type: pubsub.jetstream
  metadata:
  - {name: natsURL, secretKeyRef: {name: bus, key: url}}
  - {name: queueGroupName, value: functions}
  - {name: durableName, value: functions}
---
kind: Secret
metadata: {name: bus}
stringData: {url: %q}
`

// TestE2EDaprReadsATopic has Dapr's own code read a topic. It trusts the authority by the folder that has it.
func TestE2EDaprReadsATopic(t *testing.T) {
	m := newMembers(t, 1)
	b := m.bus()
	defer b.Close()
	topic := b.Topic(bus.Topic{Name: "metrics", Origin: "subscriber"})
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = topic.Handle(t.Context(), newEvent(t, "e1", []byte("cpu: 1"))); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	address := url.URL{Scheme: "tls", User: url.UserPassword(m.access.Username, m.access.Password), Host: m.all[0].client}
	documents := fmt.Sprintf(component, address.String())
	if said := servers.NewDapr(t, documents).Check()["bus"]; !strings.Contains(said, "unknown authority") {
		t.Errorf("where nobody trusts the authority Dapr says %q, want that it is unknown", said)
	}
	authority := t.TempDir()
	if err := os.WriteFile(filepath.Join(authority, "ca.crt"), []byte(m.access.CACerts), 0o600); err != nil {
		t.Fatal(err)
	}
	in := servers.NewDapr(t, documents, "SSL_CERT_DIR="+authority).Subscribe("metrics", true)
	var got []servers.DaprMessage
	for deadline := time.Now().Add(time.Minute); len(got) == 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		got = in.Messages()
	}
	if len(got) != 1 {
		t.Fatalf("%d messages, want 1\n%s", len(got), in.Process().Output())
	}
	e, err := event.ParseStructured(got[0].Event)
	if err != nil {
		t.Fatal(err)
	}
	if string(e.Data()) != "cpu: 1" {
		t.Errorf("data %q, want them as they were published", e.Data())
	}
}

// TestE2EDrained wants a member that ends to hand over first, so that the other two go on without it.
func TestE2EDrained(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3)
	b := m.bus()
	defer b.Close()
	for i := range m.all {
		if err := syscall.Kill(m.all[i].process.Pid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := m.all[i].process.Wait(); err != nil {
			t.Errorf("member %d ended with %v, want nil\n%s", i, err, m.all[i].process.Output())
		}
		if strings.Contains(m.all[i].process.Output(), m.access.Password) {
			t.Error("a log has the password")
		}
		m.startOne(i)
		m.await(i)
	}
}

// TestE2ERotation wants servers to take over another password and certificate from the Secret, and the members to let each other in by it, while
// 1,000 events a second are published. The test plays the gateway: at the servers first and in the plan first in turn, one Bus is closed and
// another one opened.
func TestE2ERotation(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3)
	l := newLoad(t, m.bus(), 1000)
	for i := range 4 {
		l.passes(1000)
		m.access = newAccess(t, fmt.Sprint("another password ", i))
		if i%2 == 0 {
			m.writeAccess()
			m.awaitAccess()
			l.use(m.bus())()
		} else {
			await := l.use(m.bus())
			m.writeAccess()
			m.awaitAccess()
			await()
		}
	}
	// One that starts anew knows the new certificate only.
	m.all[0].process.Kill()
	m.startOne(0)
	m.await(0)
	l.passes(1000)
	l.finish()
}

// awaitAccess returns when every member lets a client in by what was written.
func (m *members) awaitAccess() {
	m.t.Helper()
	for i, it := range m.all {
		var err error
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if err = m.lets(it.client); err == nil {
				break
			}
		}
		if err != nil {
			m.t.Errorf("member %d: %v\n%s", i, err, it.process.Output())
		}
	}
}

// lets tells whether a member lets a client in.
func (m *members) lets(address string) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(m.access.CACerts))
	nc, err := nats.Connect("tls://"+address, nats.UserInfo(m.access.Username, m.access.Password), nats.Secure(&tls.Config{RootCAs: roots}), nats.NoReconnect())
	if err == nil {
		nc.Close()
	}
	return err
}
