package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

const installPage = "docs/install.md"

var (
	shell    = regexp.MustCompile("(?s)```sh\n(.*?)```")
	fileFlag = regexp.MustCompile(`-f (\S+)`)
	workload = regexp.MustCompile(`deployment/(\S+)`)
	making   = regexp.MustCompile(`^((VERSION|IMAGE_REPO|KO_DOCKER_REPO|IMAGE_PULL_SECRETS)=\S+ )*make release\n$`)
)

// TestInstallPage wants the page to name what is shipped, and its commands nothing else.
func TestInstallPage(t *testing.T) {
	text, err := os.ReadFile(root + installPage)
	if err != nil {
		t.Fatal(err)
	}
	page, deployments := string(text), list[appsv1.Deployment](t)
	var names []string
	for name := range deployments {
		names = append(names, name)
	}
	for name := range list[corev1.ConfigMap](t) {
		names = append(names, name)
	}
	for _, name := range names {
		if !strings.Contains(page, "\n| `"+name+"` |") {
			t.Errorf("no table of %s has the line of %s", installPage, name)
		}
	}

	dir, out, err := release(t, "VERSION=v0.1.0")
	if err != nil {
		t.Fatal(out)
	}
	var commands []string
	for _, block := range shell.FindAllStringSubmatch(page, -1) {
		commands = slices.AppendSeq(commands, strings.Lines(block[1]))
	}
	if len(commands) < 10 {
		t.Errorf("only %d commands were found", len(commands))
	}
	for _, command := range commands {
		if !strings.HasPrefix(command, "kubectl ") && !making.MatchString(command) {
			t.Errorf("%s: nobody knows this command", command)
		}
		for _, m := range fileFlag.FindAllStringSubmatch(command, -1) {
			path := root + m[1]
			if name, ok := strings.CutPrefix(m[1], "release/"); ok {
				path = filepath.Join(dir, name)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %v", command, err)
			}
		}
		for _, m := range workload.FindAllStringSubmatch(command, -1) {
			if deployments[m[1]] == nil {
				t.Errorf("%s: there is no Deployment %s", command, m[1])
			}
		}
	}
}
