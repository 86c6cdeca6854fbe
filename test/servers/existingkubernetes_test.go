package servers

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckCluster(t *testing.T) {
	ours, foreign := filepath.Join(t.TempDir(), "kubeconfig"), filepath.Join(t.TempDir(), "kubeconfig")
	for _, name := range []string{ours, filepath.Join(filepath.Dir(ours), "cluster.pid"), foreign} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	images := map[string]string{"KUBECONFIG": foreign, "IMAGE_REPO": "images.example", "VERSION": "v1"}
	at := func(host string) map[string]string {
		env := maps.Clone(images)
		env[clusterHost] = host
		return env
	}
	t.Setenv("PATH", "") // without ko
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string // part of the sentence; empty if nothing is missing
	}{
		{"a cluster is started", nil, ""},
		{"one of ours runs", map[string]string{"KUBECONFIG": ours}, ""},
		{"a relative path", map[string]string{"KUBECONFIG": "bin/cluster/kubeconfig"}, "the absolute path of one file"},
		{"a list", map[string]string{"KUBECONFIG": ours + ":" + foreign}, "the absolute path of one file"},
		{"no images", map[string]string{"KUBECONFIG": foreign, clusterHost: "192.0.2.1"}, "set IMAGE_REPO and VERSION to those of a release"},
		{"images of no version", map[string]string{"KUBECONFIG": foreign, "IMAGE_REPO": "images.example"}, "set IMAGE_REPO and VERSION to"},
		{"nobody builds images", map[string]string{"KUBECONFIG": foreign, "KO_DOCKER_REPO": "images.example"}, "with ko installed"},
		{"no way to this machine", images, "set CLUSTER_TEST_HOST to an IPv4 address"},
		{"the pod itself", at("127.0.0.1"), "set CLUSTER_TEST_HOST"},
		{"every address", at("0.0.0.0"), "set CLUSTER_TEST_HOST"},
		{"a name", at("localhost"), "set CLUSTER_TEST_HOST"},
		{"an address of another machine", at("198.51.100.1"), "CLUSTER_TEST_HOST is no address of this machine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkCluster(func(name string) string { return tt.env[name] })
			if tt.want == "" && err != nil {
				t.Errorf("got %v", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
