package servers

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// What measures time or counts processes runs alone, everything else beside each other. Several test processes run at once, so a file says
// which: whoever has a server holds its lock with others, and whoever is alone by itself.
var company = struct {
	sync.Mutex
	is map[testing.TB]bool // who has the lock, in this process
}{is: map[testing.TB]bool{}}

// Alone has the test wait until no other test has a server, in any process, and the others wait until it has ended. It comes after those of its
// own process that are not parallel, and lets all others go first, as long as there are any that have a server. It is to be called before anything
// is started.
//
// While it waits it keeps one of the places of -parallel: a test that has a server must not wait for one that has yet to begin, such as a
// parallel part of itself, or as many as wait to be alone could keep all places, and nobody would go on.
func Alone(t *testing.T) {
	t.Helper()
	t.Parallel() // so that it does not hold up those of its process that may run beside others
	lockCompany(t, syscall.LOCK_EX)
}

// Beside has the test wait while another one is alone, and has those that want to be alone wait until it has ended. Whoever starts a server of this
// package does that by it.
func Beside(t testing.TB) {
	t.Helper()
	if !isAlone(t) {
		lockCompany(t, syscall.LOCK_SH)
	}
}

// isAlone tells whether the test, or one that it is part of, is.
func isAlone(t testing.TB) bool {
	company.Lock()
	defer company.Unlock()
	for other, alone := range company.is {
		if alone && strings.HasPrefix(t.Name()+"/", other.Name()+"/") {
			return true
		}
	}
	return false
}

// lockCompany takes the lock for a test once, until it ends. A lock that is held with others is never waited for by who holds it already, since
// it is given to more of them while somebody waits to be alone.
func lockCompany(t testing.TB, how int) {
	t.Helper()
	company.Lock()
	_, has := company.is[t]
	company.Unlock()
	if has {
		return
	}
	unlock, err := lockFile(companyFile(), how)
	if err != nil {
		t.Fatal(err)
	}
	company.Lock()
	company.is[t] = how == syscall.LOCK_EX
	company.Unlock()
	t.Cleanup(func() {
		company.Lock()
		delete(company.is, t)
		company.Unlock()
		unlock()
	})
}

func companyFile() string { return filepath.Join(os.TempDir(), "openfunction-events-company.lock") }
