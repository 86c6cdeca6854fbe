package servers

import (
	"syscall"
	"testing"
)

func TestOneIsAloneAndOthersAreBesideEachOther(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	try := func(how int) bool {
		unlock, err := lockFile(companyFile(), how|syscall.LOCK_NB)
		if err == nil {
			unlock()
		}
		return err == nil
	}
	mayBe := func(t *testing.T, beside, alone bool) {
		t.Helper()
		if got := try(syscall.LOCK_SH); got != beside {
			t.Errorf("another test may start a server: %v, want %v", got, beside)
		}
		if got := try(syscall.LOCK_EX); got != alone {
			t.Errorf("another test may be alone: %v, want %v", got, alone)
		}
	}
	t.Run("a test with servers", func(t *testing.T) {
		mayBe(t, true, true)
		Beside(t)
		Beside(t) // its second server
		mayBe(t, true, false)
		t.Run("a server of its own", func(t *testing.T) { Beside(t) })
		mayBe(t, true, false)
	})
	mayBe(t, true, true)
	t.Run("a test that is alone", func(t *testing.T) {
		lockCompany(t, syscall.LOCK_EX)
		Beside(t) // does not wait for itself
		t.Run("a server", func(t *testing.T) { Beside(t) })
		mayBe(t, false, false)
	})
	mayBe(t, true, true)
}
