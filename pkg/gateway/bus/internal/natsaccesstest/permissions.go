package natsaccesstest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/plan"
)

// Access is how a bus comes as the User.
var Access = plan.NATSAccess{Username: "events", Password: "change-me"}

// User may do what is listed, and no more.
func User(publish, subscribe []string) *server.User {
	return &server.User{Username: Access.Username, Password: Access.Password, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
	}}
}

// Permit changes what the User may do, as a person does. The server was started with o.
func Permit(t testing.TB, s *server.Server, o *server.Options, publish, subscribe []string) {
	t.Helper()
	o = o.Clone()
	i := slices.IndexFunc(o.Users, func(u *server.User) bool { return u.Username == Access.Username })
	o.Users[i] = User(publish, subscribe)
	if err := s.ReloadOptions(o); err != nil {
		t.Fatal(err)
	}
}

// Documented returns what an example of the documentation permits the user of the bus.
func Documented(t testing.TB, example string) (publish, subscribe []string) {
	t.Helper()
	o, err := server.ProcessConfigFile("../../../../docs/examples/" + example)
	if err != nil {
		t.Fatal(err)
	}
	p := o.Users[0].Permissions
	return p.Publish.Allow, p.Subscribe.Allow
}

// Without returns the list without an item.
func Without(list []string, item string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == item })
}

// StaysSame wants what try says to be said all the time, for several tries of a bus.
func StaysSame(t testing.TB, said string, try func() error) {
	t.Helper()
	for end := time.Now().Add(800 * time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := try(); err == nil || err.Error() != said {
			t.Fatalf("it says %v after %s", err, said)
		}
	}
}

// NoRepeats wants no line twice.
func NoRepeats(t testing.TB, lines []observer.LoggedEntry) {
	t.Helper()
	said := map[string]bool{}
	for _, e := range lines {
		line := fmt.Sprint(e.Message, e.ContextMap())
		if said[line] {
			t.Errorf("said twice: %s", line)
		}
		said[line] = true
	}
}
