package servers

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// JetStreamClusterServers are three nats-servers of one cluster. Each keeps its ports and its data.
type JetStreamClusterServers struct {
	// Nodes are the servers. One that was killed and started again takes part when Await returns.
	Nodes []*JetStreamServer

	t        testing.TB
	monitors []string
}

// JetStreamCluster starts three servers that live until the test ends. They speak TLS only, each with a certificate of the authority. The directives are
// lines of the configuration of each.
func JetStreamCluster(t testing.TB, a *Authority, directives ...string) *JetStreamClusterServers {
	t.Helper()
	c := &JetStreamClusterServers{t: t}
	var members, routes []string
	for range 3 {
		s := newJetStream(t)
		s.speakTLS(a)
		c.Nodes = append(c.Nodes, s)
		c.monitors = append(c.monitors, FreeAddress(t))
		members = append(members, FreeAddress(t))
		routes = append(routes, fmt.Sprintf("%q", "nats://"+members[len(members)-1]))
	}
	for i, s := range c.Nodes {
		s.configure(append([]string{
			fmt.Sprintf("server_name: node-%d", i), fmt.Sprintf("http: %q", c.monitors[i]),
			fmt.Sprintf("cluster { name: test, listen: %q, routes: [%s] }", members[i], strings.Join(routes, ", ")),
		}, directives...))
	}
	for _, s := range c.Nodes {
		s.Start()
	}
	c.Await()
	return c
}

// URL is where clients connect to.
func (c *JetStreamClusterServers) URL() string {
	var urls []string
	for _, s := range c.Nodes {
		urls = append(urls, s.URL())
	}
	return strings.Join(urls, ",")
}

// Await returns when every server is up to date.
func (c *JetStreamClusterServers) Await() {
	c.t.Helper()
	deadline := time.Now().Add(startTimeout)
	for i, monitor := range c.monitors {
		for err := healthy(monitor); err != nil; err = healthy(monitor) {
			if time.Now().After(deadline) {
				c.t.Fatalf("node %d: %v\n%s", i, err, c.Nodes[i].Process().Output())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func healthy(monitor string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + monitor + "/healthz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", resp.Request.URL, resp.Status)
	}
	return nil
}
