package node

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestSandboxShowsMountsAndLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	volume, root := filepath.Join(dir, "volume"), filepath.Join(dir, "root")
	for _, d := range []string{volume, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(volume, "key"), []byte("value"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := sandbox{root: root, ip: [4]byte{127, 78, 250, 1}, mounts: []mount{
		{source: volume, target: "/var/run/secrets/test/volume", readOnly: true},
		{source: volume, target: "/var/run/secrets/test/again"},
		{source: volume, target: "/config/a"},
		{source: volume, target: "/config/b"},
		{source: filepath.Join(volume, "key"), target: "/etc/resolv.conf"},
		{source: filepath.Join(volume, "key"), target: "/etc/test/nested/key"},
	}}
	var out bytes.Buffer
	cmd := exec.Command("/bin/sh", "-c", `for f in /var/run/secrets/test/volume/key /var/run/secrets/test/again/key /config/a/key /config/b/key /etc/resolv.conf /etc/test/nested/key; do cat $f; done; test -f /etc/passwd || echo no passwd; touch /var/run/secrets/test/volume/x 2>/dev/null && echo writable`)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := s.start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if got, want := out.String(), "valuevaluevaluevaluevaluevalue"; got != want {
		t.Errorf("the process printed %q, want %q", got, want)
	}
	for _, path := range []string{"/config", "/etc/test", "/run/secrets/test", "/.stash", filepath.Join(root, "etc")} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the machine's disk", path)
		}
	}
}

func TestSandboxBindsEveryAddressToThePods(t *testing.T) {
	for _, tt := range []struct{ name, listen, want string }{
		{"every address of IPv4", "0.0.0.0:18080", "127.78.250.1:18080"},
		{"every address", ":18080", "127.78.250.1:18080"},
		{"an address of its own", "127.0.0.1:18081", "127.0.0.1:18081"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := exec.Command(os.Args[0], "-test.run=TestListens")
			cmd.Env = append(os.Environ(), "TEST_LISTEN="+tt.listen)
			cmd.Stdout, cmd.Stderr = &out, &out
			p, err := sandbox{root: t.TempDir(), ip: [4]byte{127, 78, 250, 1}}.start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			<-p.exited
			if !bytes.Contains(out.Bytes(), []byte("listens on "+tt.want+"\n")) {
				t.Errorf("the process printed %q, want %s", &out, tt.want)
			}
		})
	}
}
