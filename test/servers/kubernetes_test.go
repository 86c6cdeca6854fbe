//go:build e2e

package servers

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is the program of the pods when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv("SERVERS_TEST_POD") != "" {
		pod()
		return
	}
	os.Exit(m.Run())
}

// pod answers what it sees.
func pod() {
	answers := map[string]func(*http.Request) (string, error){
		"/pid":  func(*http.Request) (string, error) { return strconv.Itoa(os.Getpid()), nil },
		"/host": func(*http.Request) (string, error) { return os.Hostname() },
		"/env":  func(r *http.Request) (string, error) { return os.Getenv(r.FormValue("name")), nil },
		"/file": func(r *http.Request) (string, error) { return readString(r.FormValue("path")) },
		"/get":  func(r *http.Request) (string, error) { return get(r.FormValue("url")) },
		"/api":  func(r *http.Request) (string, error) { return askAPI(r.FormValue("path")) },
	}
	for path, answer := range answers {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			text, err := answer(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, text)
		})
	}
	fmt.Println("pod starts")
	fmt.Println(http.ListenAndServe(":8080", nil))
}

func readString(path string) (string, error) {
	raw, err := os.ReadFile(path)
	return string(raw), err
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return body(client.Get(url))
}

func body(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, raw)
	}
	return string(raw), err
}

// askAPI asks the API server as the pod's service account.
func askAPI(path string) (string, error) {
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return "", err
	}
	token, err := readString(account + "token")
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	url := "https://" + os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT") + path
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return body(client.Do(req))
}

const clusterManifest = `
apiVersion: v1
kind: Secret
metadata: {name: shown}
stringData: {key: one}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {WORD: hello}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: reader
      containers:
      - name: web
        image: example.org/pod:v1
        env:
        - {name: SERVERS_TEST_POD, value: "yes"}
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: KEY, valueFrom: {secretKeyRef: {name: shown, key: key}}}
        - {name: BOTH, value: "$(KEY) $(WORD)"}
        envFrom: [{configMapRef: {name: words}}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /pid, port: http}}
        livenessProbe: {exec: {command: [cat, /etc/shown/nested/key]}, periodSeconds: 1}
        volumeMounts: [{name: shown, mountPath: /etc/shown/nested, readOnly: true}]
      volumes: [{name: shown, secret: {secretName: shown}}]
`

// TestE2ECluster is one test, because a cluster takes long to start. Each subtest leaves what the next one needs.
func TestE2ECluster(t *testing.T) {
	NeedsOwnKubernetes(t, "is about the node of our own")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := Kubernetes(t)
	c.Images(map[string]string{"example.org/pod": program})
	if got := c.Kubectl("version"); !strings.Contains(got, "Server Version: v1.37.2") {
		t.Errorf("kubectl version printed %q", got)
	}
	c.Apply(clusterManifest)
	c.DeleteAfter("secret/shown", "configmap/words", "serviceaccount/reader", "role/reader", "rolebinding/reader", "service/web", "deployment/web")
	c.Kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	address := "http://" + c.Kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")

	t.Run("a Service forwards to each pod, by address and by name", func(t *testing.T) {
		seen := map[string]bool{}
		for range 4 {
			seen[mustGet(t, address+"/host")] = true
			seen[mustGet(t, address+"/get?url=http://web.default.svc.cluster.local/host")] = true
			seen[mustGet(t, address+"/get?url=http://web.default.svc/env?name=NAME")] = true
			seen[mustGet(t, address+"/get?url=http://web/host")] = true
		}
		if len(seen) != 2 {
			t.Errorf("answers of %v, want two pods", seen)
		}
	})
	t.Run("a port of a pod is forwarded", func(t *testing.T) {
		pod := c.Kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
		if got := mustGet(t, "http://"+c.Forward("default", pod, 8080)+"/env?name=NAME"); got != pod {
			t.Errorf("got to pod %q, want %s", got, pod)
		}
	})
	t.Run("the environment has what the pod asks for", func(t *testing.T) {
		if got, want := mustGet(t, address+"/env?name=BOTH"), "one hello"; got != want {
			t.Errorf("BOTH = %q, want %q", got, want)
		}
	})
	t.Run("a changed Secret is in the mounted file within two seconds", func(t *testing.T) {
		c.Kubectl("patch", "secret", "shown", "-p", `{"stringData":{"key":"two"}}`)
		eventually(t, 2*time.Second, func() error {
			for range 2 {
				if got := mustGet(t, address+"/file?path=/etc/shown/nested/key"); got != "two" {
					return fmt.Errorf("the file has %q", got)
				}
			}
			return nil
		})
		if _, err := os.Stat("/etc/shown"); err == nil {
			t.Error("/etc/shown is on the machine's disk")
		}
	})
	t.Run("the service account may do what it is granted and nothing else", func(t *testing.T) {
		mustGet(t, address+"/api?path=/api/v1/namespaces/default/configmaps/words")
		if _, err := get(address + "/api?path=/api/v1/namespaces/default/secrets/shown"); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("reading a Secret: %v, want 403", err)
		}
	})
	t.Run("a killed process is started again", func(t *testing.T) {
		pid := atoi(t, mustGet(t, address+"/pid"))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func() error {
			counts := c.Kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
			ready := c.Kubectl("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
			if !strings.Contains(counts, "1") || ready != "2" {
				return fmt.Errorf("restarts %q, %s ready", counts, ready)
			}
			return nil
		})
	})
	t.Run("the cluster recovers from a killed API server", func(t *testing.T) {
		c.KillAPIServer()
		mustGet(t, address+"/pid") // pods do not need it
		if _, err := c.Try("get", "pods"); err == nil {
			t.Error("kubectl works without an API server")
		}
		c.StartAPIServer()
		c.Kubectl("scale", "deployment", "web", "--replicas=3")
		c.Kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	})
	t.Run("a deleted Deployment leaves no process", func(t *testing.T) {
		pid := atoi(t, mustGet(t, address+"/pid"))
		if got := c.Kubectl("logs", "deployment/web", "--tail=1"); got != "pod starts\n" {
			t.Errorf("kubectl logs printed %q", got)
		}
		pods := strings.Fields(c.Kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"))
		c.Kubectl("delete", "deployment", "web")
		c.Kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s")
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d runs", pid)
		}
		eventually(t, 2*time.Second, func() error {
			if _, err := get(address + "/pid"); err == nil || !strings.Contains(err.Error(), "refused") {
				return fmt.Errorf("the Service answers with %v, want refused", err)
			}
			return nil
		})
		if log := c.Log("default", pods[0], "web"); !strings.Contains(log, "pod starts") {
			t.Errorf("the log is %q", log)
		}
	})
}

func mustGet(t *testing.T, url string) string {
	t.Helper()
	got, err := get(url)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually asks until check returns nil.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
