//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package standalone

import (
	"errors"
	"os"
	"syscall"
)

// lock takes f for as long as it is open, which ends with the process at the latest. It returns errLocked if someone else has it.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}
