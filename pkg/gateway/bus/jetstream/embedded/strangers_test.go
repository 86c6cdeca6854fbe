//go:build e2e

package embedded

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestE2EStrangersDoNotJoin wants members to take nobody for another member, whatever it says, who shows no certificate of their authority.
func TestE2EStrangersDoNotJoin(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3)
	stranger := newAccess(t, m.access.Password)
	stranger.CACerts = m.access.CACerts // which is no secret

	with := func(a *Access) *tls.Config {
		pair, err := a.pair()
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
	}
	for name, tt := range map[string]struct {
		secure *tls.Config
		in     bool
	}{
		"in plain text":                           {secure: nil},
		"without a certificate":                   {secure: &tls.Config{InsecureSkipVerify: true}},
		"with a certificate of another authority": {secure: with(stranger)},
		"with a certificate of their authority":   {secure: with(m.access), in: true}, // or else nothing of the others is shown
	} {
		for i, it := range m.all {
			answer := asMember(t, it.cluster, tt.secure)
			if in := strings.Contains(answer, "INFO {"); in != tt.in {
				t.Errorf("%s: member %d answers %q, want that it greets a member: %v", name, i, answer, tt.in)
			}
		}
	}
	t.Run("as a server of ours", func(t *testing.T) { m.refuse(t, stranger) })
}

// asMember returns what the address for members says to one that introduces itself, until it closes the connection or greets it.
func asMember(t *testing.T, address string, secure *tls.Config) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		c = tls.Client(c, secure)
	}
	// An error is an answer too: what is read tells.
	_, _ = io.WriteString(c, `INFO {"server_id":"STRANGER","server_name":"b-3","version":"2.11.0","proto":1,"host":"127.0.0.1","port":1,"headers":true,"cluster":"test"}`+"\r\n"+
		`CONNECT {"verbose":false,"pedantic":false,"name":"STRANGER","cluster":"test"}`+"\r\nPING\r\n")
	var answer strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(answer.String(), "INFO {") {
		n, err := c.Read(buffer)
		answer.Write(buffer[:n])
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatalf("after a minute the connection is open, and %q was said", answer.String())
		}
		if err != nil {
			break
		}
	}
	return answer.String()
}

// refuse starts another member with the access, and wants no member to take it for one.
func (m *members) refuse(t *testing.T, access *Access) {
	t.Helper()
	o := Options{Dir: t.TempDir(), Name: "b-3", Host: "127.0.0.1", SyncInterval: time.Second, Access: access, Cluster: &Cluster{Name: "test", Host: "127.0.0.1", Port: -1}}
	before := 0
	for _, it := range m.all {
		o.Cluster.Members = append(o.Cluster.Members, it.cluster)
		before += m.refusals(it)
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ns, err := s.now()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		refusals := -before
		for _, it := range m.all {
			refusals += m.refusals(it)
		}
		switch {
		case ns.NumRoutes() > 0:
			t.Fatalf("it has %d connections to other members, want none", ns.NumRoutes())
		case refusals > 2*len(m.all): // it has tried each, and again
			return
		case time.Now().After(deadline):
			t.Fatalf("within a minute the members have refused %d connections, want more than %d\n%s", refusals, 2*len(m.all), m.all[0].process.Output())
		}
	}
}

// refusals is how many connections of members a member says that it has refused.
func (m *members) refusals(it *member) int {
	return strings.Count(it.process.Output(), "TLS route handshake error")
}
