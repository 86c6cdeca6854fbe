//go:build unix

package dispatch

import "syscall"

// nothingToRead tells whether an open connection has nothing to read: no byte, no end and no error.
func nothingToRead(fd uintptr) bool {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
	return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
}
