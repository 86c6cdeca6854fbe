package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// release renders a release into a new directory and returns it with what was printed.
func release(t *testing.T, env ...string) (dir, out string, err error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "release")
	command := exec.CommandContext(t.Context(), root+"hack/release.sh", dir)
	command.Env = append(os.Environ(), append([]string{"KO_DOCKER_REPO=", "IMAGE_REPO=", "IMAGE_PULL_SECRETS="}, env...)...)
	printed, err := command.CombinedOutput()
	return dir, string(printed), err
}

// expected are the documents that a release is to have, those of config/ in its order, the definitions first.
func expected(t *testing.T, version string, image func(name string) string) (crds, core []*unstructured.Unstructured) {
	t.Helper()
	for _, o := range shipped(t) {
		labels := o.GetLabels()
		labels["app.kubernetes.io/version"] = version
		o.SetLabels(labels)
		replaceImages(o.Object, image)
		if o.GetKind() == "CustomResourceDefinition" {
			crds = append(crds, o)
		} else {
			core = append(core, o)
		}
	}
	return crds, core
}

// replaceImages replaces what ko would, wherever it is.
func replaceImages(in any, image func(name string) string) any {
	switch in := in.(type) {
	case map[string]any:
		for key, value := range in {
			in[key] = replaceImages(value, image)
		}
	case []any:
		for i, value := range in {
			in[i] = replaceImages(value, image)
		}
	case string:
		if name, ok := strings.CutPrefix(in, "ko://github.com/openfunction/events/cmd/"); ok {
			return image(name)
		}
	}
	return in
}

func TestRelease(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		env           []string
		image         func(name string) string
	}{
		{
			"images are where ours are", "v0.1.0", nil,
			func(name string) string { return "ghcr.io/openfunction/events-" + name + ":v0.1.0" },
		},
		{
			"images are somewhere else, and the version looks like a number", "1e10", []string{"IMAGE_REPO=registry.example:5000/a/b"},
			func(name string) string { return "registry.example:5000/a/b/events-" + name + ":1e10" },
		},
		{
			"ko builds images", "v0.1.0", []string{"KO_DOCKER_REPO=example.com/built", "PATH=" + fakeKo(t) + ":" + os.Getenv("PATH")},
			func(name string) string { return "example.com/built/" + name + "@v0.1.0" },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, out, err := release(t, append(tt.env, "VERSION="+tt.version)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			crds, core := expected(t, tt.version, tt.image)
			for file, want := range map[string][]*unstructured.Unstructured{
				"crds.yaml": crds, "core.yaml": core, "openfunction-events.yaml": append(crds, core...),
			} {
				file = filepath.Join(dir, file)
				if diff := cmp.Diff(documents(t, file), want); diff != "" {
					t.Errorf("%s (-got +want):\n%s", filepath.Base(file), diff)
				}
				if text, _ := os.ReadFile(file); strings.Contains(string(text), "ko://") {
					t.Errorf("%s has a ko:// left", filepath.Base(file))
				}
			}
		})
	}
}

// fakeKo returns a directory with a program that answers like ko does to what we ask of it, and to nothing else.
func fakeKo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
[ "$*" = "resolve --tags v0.1.0 --filename -" ] || { echo "ko $*" >&2; exit 2; }
exec sed "s|ko://github.com/openfunction/events/cmd/\(.*\)|$KO_DOCKER_REPO/\1@v0.1.0|"
`
	if err := os.WriteFile(filepath.Join(dir, "ko"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReleaseOfAWrongVersion(t *testing.T) {
	for _, version := range []string{"v1 beta", "-v1", "v1|", strings.Repeat("v", 64)} {
		dir, out, err := release(t, "VERSION="+version)
		if err == nil || !strings.Contains(out, "release: VERSION is") {
			t.Errorf("%q: %v, %s", version, err, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: something was rendered", version)
		}
	}
}

// TestReleaseOfAPrivateRegistry wants our own Deployments to name the Secrets, and the controller to be told of them; all else is as ever.
func TestReleaseOfAPrivateRegistry(t *testing.T) {
	render := func(env ...string) []*unstructured.Unstructured {
		dir, out, err := release(t, append(env, "VERSION=v0.1.0")...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return documents(t, filepath.Join(dir, "openfunction-events.yaml"))
	}
	got, want := render("IMAGE_PULL_SECRETS=registry,mirror.eu"), render()
	for _, o := range want {
		if o.GetKind() != "Deployment" {
			continue
		}
		pod := o.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		pod["imagePullSecrets"] = []any{map[string]any{"name": "registry"}, map[string]any{"name": "mirror.eu"}}
		if o.GetName() == "events-controller" {
			c := pod["containers"].([]any)[0].(map[string]any)
			env := c["env"].([]any)
			at := slices.IndexFunc(env, func(e any) bool { return e.(map[string]any)["name"] == "GATEWAY_IMAGE" })
			c["env"] = slices.Insert(env, at, any(map[string]any{"name": "IMAGE_PULL_SECRETS", "value": "registry,mirror.eu"}))
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("openfunction-events.yaml (-got +want):\n%s", diff)
	}
	for _, value := range []string{"registry,", "registry mirror", "Registry", "a|b"} {
		dir, out, err := release(t, "VERSION=v0.1.0", "IMAGE_PULL_SECRETS="+value)
		if err == nil || !strings.Contains(out, "release: IMAGE_PULL_SECRETS is") {
			t.Errorf("%q: %v, %s", value, err, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: something was rendered", value)
		}
	}
}

// TestReleaseThatKoFails wants no half of a release.
func TestReleaseThatKoFails(t *testing.T) {
	dir, out, err := release(t, "VERSION=v0.2.0", "KO_DOCKER_REPO=example.com/built", "PATH="+fakeKo(t)+":"+os.Getenv("PATH"))
	if err == nil {
		t.Errorf("no error: %s", out)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("something was rendered")
	}
}
