package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
)

func TestWhatTheEnvironmentMustSay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"username", "password", "ca.crt", "tls.crt", "tls.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("the "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := readAccess(dir); err != nil || got != (embedded.Access{
		Username: "the username", Password: "the password", CACerts: "the ca.crt", Cert: "the tls.crt", Key: "the tls.key",
	}) {
		t.Errorf("readAccess() = %v, %v", got, err)
	}
	good := env{PodName: "b-0", DataDir: dir, AccessDir: dir, Cluster: "b", Listen: ":1", ClusterListen: ":2", AdminListen: "127.0.0.1:0", LogLevel: "info"}
	if o, err := good.options(); err != nil || o.Host != "0.0.0.0" || o.Port != 1 || o.Cluster.Port != 2 {
		t.Errorf("options() = %+v, %v, want every address of the pod", o, err)
	}
	for want, change := range map[string]func(*env){
		`LISTEN "4222": want host:port: address 4222: missing port in address`:           func(e *env) { e.Listen = "4222" },
		`CLUSTER_LISTEN ":x": want host:port: strconv.Atoi: parsing "x": invalid syntax`: func(e *env) { e.ClusterListen = ":x" },
		`LOG_LEVEL "loud": want debug, info, warn or error`:                              func(e *env) { e.LogLevel = "loud" },
		`the Secret: open /nowhere/`:                                                     func(e *env) { e.AccessDir = "/nowhere" },
	} {
		e := good
		change(&e)
		if err := run(t.Context(), e); err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("run() = %v, want %s", err, want)
		}
	}
}
