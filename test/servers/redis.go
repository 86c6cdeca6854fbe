package servers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server process on loopback. It keeps its port and its data when it is killed and started again.
// Its methods fail the test that started it.
type RedisServer struct {
	t       testing.TB
	config  string
	args    []string
	address string
	tls     string // the certificate of the authority that it shows one of, or empty
	process *Process
}

// Redis starts a redis-server that lives until the test ends. It has on disk what it has acknowledged. The directives are lines of its
// configuration.
func Redis(t testing.TB, directives ...string) *RedisServer {
	t.Helper()
	r := newRedis(t, "127.0.0.1")
	r.write("port "+r.port(), onDisk, directives)
	r.Start()
	return r
}

const onDisk = "appendonly yes\nappendfsync always\nsave \"\""

// RedisTLS is Redis that speaks TLS only, with a certificate of the authority.
func RedisTLS(t testing.TB, a *Authority, directives ...string) *RedisServer {
	t.Helper()
	r := newRedis(t, "127.0.0.1")
	r.write(r.secured(a), onDisk, directives)
	r.Start()
	return r
}

// secured returns the directives with which a server speaks TLS only.
func (r *RedisServer) secured(a *Authority) string {
	r.t.Helper()
	r.tls = a.Cert
	c := a.Server()
	at := WriteFiles(r.t, map[string]string{"ca.pem": a.Cert, "cert.pem": c.Cert, "key.pem": c.Key})
	return fmt.Sprintf("port 0\ntls-port %s\ntls-ca-cert-file %s\ntls-cert-file %s\ntls-key-file %s", r.port(), at("ca.pem"), at("cert.pem"), at("key.pem"))
}

// SetClients has a server of RedisTLS let in only clients with a certificate of these authorities (PEM) from now on. Connections that are there stay.
func (r *RedisServer) SetClients(authorities ...string) {
	r.t.Helper()
	at := WriteFiles(r.t, map[string]string{"ca.pem": strings.Join(authorities, "")})
	r.Do("CONFIG", "SET", "tls-ca-cert-file", at("ca.pem"))
}

// RedisCluster starts a cluster of one server, which has all slots. It is at another address than 127.0.0.1, which it does not know.
func RedisCluster(t testing.TB, directives ...string) *RedisServer {
	t.Helper()
	r := newRedis(t, "127.0.0.2")
	r.write("port "+r.port(), onDisk, directives)
	r.startCluster()
	return r
}

// RedisClusterTLS is RedisCluster that speaks TLS only, at 127.0.0.1.
func RedisClusterTLS(t testing.TB, a *Authority, directives ...string) *RedisServer {
	t.Helper()
	r := newRedis(t, "127.0.0.1")
	r.write(r.secured(a)+"\ntls-cluster yes", onDisk, directives)
	r.startCluster()
	return r
}

func (r *RedisServer) startCluster() {
	r.t.Helper()
	r.startNode()
	r.Do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	r.awaitCluster(1)
}

// startNode returns the port at which other servers of the cluster are listened to.
func (r *RedisServer) startNode() (port int) {
	r.t.Helper()
	port = FreePort(r.t)
	r.args = []string{"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(port)}
	r.Start()
	return port
}

func (r *RedisServer) awaitCluster(nodes int) {
	r.t.Helper()
	r.eventually("the cluster is up", func(c *redis.Client) error {
		info := c.ClusterInfo(context.Background()).Val()
		if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", nodes)) {
			return fmt.Errorf("cluster info: %s", info)
		}
		return nil
	})
}

// RedisNodes starts a cluster of three servers, which share the slots.
func RedisNodes(t testing.TB) []*RedisServer {
	t.Helper()
	const n, slots = 3, 16384
	var nodes []*RedisServer
	for i := range n {
		r := newRedis(t, "127.0.0.1")
		r.write("port "+r.port(), onDisk, nil)
		bus := r.startNode()
		r.Do("CLUSTER", "ADDSLOTSRANGE", i*slots/n, (i+1)*slots/n-1)
		r.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i > 0 {
			nodes[0].Do("CLUSTER", "MEET", "127.0.0.1", r.port(), bus)
		}
		nodes = append(nodes, r)
	}
	for _, r := range nodes {
		r.awaitCluster(n)
	}
	return nodes
}

// MoveSlot moves the slot of a key, with all that is in it, to another server of the cluster.
func (r *RedisServer) MoveSlot(key string, to *RedisServer) {
	r.t.Helper()
	slot, id := r.Do("CLUSTER", "KEYSLOT", key), to.Do("CLUSTER", "MYID")
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", r.Do("CLUSTER", "MYID"))
	r.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", id)
	for {
		keys := r.Do("CLUSTER", "GETKEYSINSLOT", slot, 1).([]any)
		if len(keys) == 0 {
			break
		}
		r.Do("MIGRATE", "127.0.0.1", to.port(), keys[0], 0, 10000)
	}
	to.Do("CLUSTER", "SETSLOT", slot, "NODE", id)
	r.Do("CLUSTER", "SETSLOT", slot, "NODE", id)
}

// RedisSentinel starts a Sentinel that watches a server under the name "main". It takes a server that has been silent for a second for gone.
func RedisSentinel(t testing.TB, master *RedisServer, directives ...string) *RedisServer {
	t.Helper()
	s := newRedis(t, "127.0.0.1")
	s.watch("port "+s.port(), master, directives)
	return s
}

// RedisSentinelTLS is RedisSentinel that speaks TLS only, also to its server.
func RedisSentinelTLS(t testing.TB, a *Authority, master *RedisServer, directives ...string) *RedisServer {
	t.Helper()
	s := newRedis(t, "127.0.0.1")
	s.watch(s.secured(a)+"\ntls-replication yes", master, directives)
	return s
}

func (r *RedisServer) watch(listener string, master *RedisServer, directives []string) {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr())
	r.args = []string{"--sentinel"}
	r.write(listener, fmt.Sprintf(
		"sentinel monitor main %s %s 1\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000", host, port,
	), directives)
	r.Start()
}

func newRedis(t testing.TB, host string) *RedisServer {
	t.Helper()
	return &RedisServer{
		t: t, config: filepath.Join(t.TempDir(), "redis.conf"),
		address: net.JoinHostPort(host, strconv.Itoa(FreePort(t))),
	}
}

// write writes the configuration: how the server listens, what it is for, and what the test adds.
func (r *RedisServer) write(listener, purpose string, directives []string) {
	r.t.Helper()
	host, _, _ := net.SplitHostPort(r.address)
	lines := append([]string{"bind " + host, "dir " + filepath.Dir(r.config), "daemonize no", listener, purpose}, directives...)
	if err := os.WriteFile(r.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *RedisServer) port() string {
	_, port, _ := net.SplitHostPort(r.address)
	return port
}

// Addr is the server's address, host:port.
func (r *RedisServer) Addr() string { return r.address }

// Start starts the server again after Kill and returns once it answers.
func (r *RedisServer) Start() {
	r.t.Helper()
	r.process = StartProcess(r.t, exec.Command("redis-server", append([]string{r.config}, r.args...)...), r.ready)
}

// Kill ends the server with SIGKILL.
func (r *RedisServer) Kill() { r.process.Kill() }

// ready speaks no Redis: the server may want a password, and a certificate. What it has on disk it reads before it listens, or says
// that it is loading, which clients wait for.
func (r *RedisServer) ready() error { return Listening(r.address)() }

// Client is a client of the server for the test, without a password.
func (r *RedisServer) Client() *redis.Client { return r.ClientOf("", "") }

// ClientOf is a client of the server for the test, as a user; an empty name is the default user.
func (r *RedisServer) ClientOf(username, password string) *redis.Client {
	r.t.Helper()
	o := &redis.Options{Addr: r.address, Username: username, Password: password, MaxRetries: 10, MaxRetryBackoff: 2 * time.Second}
	if r.tls != "" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(r.tls))
		o.TLSConfig = &tls.Config{RootCAs: roots}
	}
	c := redis.NewClient(o)
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Do runs a command as the default user and returns its answer.
func (r *RedisServer) Do(args ...any) any {
	r.t.Helper()
	c := r.Client()
	defer c.Close()
	answer, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		r.t.Fatalf("redis %v: %v", args, err)
	}
	return answer
}

func (r *RedisServer) eventually(what string, try func(*redis.Client) error) {
	r.t.Helper()
	c := r.Client()
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		err := try(c)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: %v", what, err)
		}
	}
}
