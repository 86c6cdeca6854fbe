package node

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pods share the machine's loopback interface, and programs listen on every address. So that two pods may listen on the same port,
// the kernel asks the node about each bind of a container's processes (a seccomp filter with user notification), and the node binds
// the socket to the pod's address when the process asked for every address.

// notification and response are struct seccomp_notif and struct seccomp_notif_resp of linux/seccomp.h.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// carryOn lets the system call happen as it was asked for.
const carryOn = 1

// bindListener is asked about the binds of one container's processes.
type bindListener struct {
	fd         int
	wake, woke *os.File // wake is closed to stop
}

// listenBinds makes the kernel ask about each bind of the processes that the calling thread starts from now on.
func listenBinds() (*bindListener, error) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the system call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_BIND},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	woke, wake, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		_, _ = wake.Close(), woke.Close()
		return nil, fmt.Errorf("install the seccomp filter for bind: %w", errno)
	}
	unix.CloseOnExec(int(fd))
	return &bindListener{fd: int(fd), wake: wake, woke: woke}, nil
}

// stop makes serve return.
func (l *bindListener) stop() { _ = l.wake.Close() }

// serve answers until stop is called; then later binds get ENOSYS. Sockets of IPv4 and those of IPv6 that take IPv4 too get ip.
func (l *bindListener) serve(ip [4]byte) {
	defer l.woke.Close()
	defer unix.Close(l.fd)
	poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(l.woke.Fd())}}
	for {
		_, err := unix.Poll(poll, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || poll[1].Revents != 0 || poll[0].Revents&unix.POLLHUP != 0 {
			return
		}
		var n notification
		if !l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) {
			continue // interrupted, or the process is gone
		}
		r := answer(n, ip)
		l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	}
}

func (l *bindListener) ioctl(request uintptr, arg unsafe.Pointer) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(arg))
	return errno == 0
}

// answer binds the process's socket to ip in its stead if it asked for every address.
func answer(n notification, ip [4]byte) response {
	r := response{id: n.id, flags: carryOn}
	address, ok := readAddress(int(n.pid), uintptr(n.args[1]), int(n.args[2]))
	if !ok {
		return r
	}
	wanted := podAddress(address, ip)
	if wanted == nil {
		return r
	}
	// The notification has the thread's id; a pidfd of a thread needs PIDFD_THREAD.
	pidfd, err := unix.PidfdOpen(int(n.pid), unix.O_EXCL)
	if err != nil {
		return r
	}
	defer unix.Close(pidfd)
	socket, err := unix.PidfdGetfd(pidfd, int(n.args[0]), 0)
	if err != nil {
		return r
	}
	defer unix.Close(socket)
	r.flags = 0
	if err := unix.Bind(socket, wanted); err != nil {
		errno, _ := err.(unix.Errno)
		r.errno = -int32(errno)
	}
	return r
}

func readAddress(pid int, at uintptr, length int) ([]byte, bool) {
	if length < unix.SizeofSockaddrInet4 || length > unix.SizeofSockaddrAny {
		return nil, false
	}
	b := make([]byte, length)
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(length)
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: at, Len: length}}, 0)
	return b, err == nil && n == length
}

// podAddress is what to bind instead of the raw socket address b, or nil if b names an address.
func podAddress(b []byte, ip [4]byte) unix.Sockaddr {
	port := int(binary.BigEndian.Uint16(b[2:]))
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && [4]byte(b[4:8]) == [4]byte{}:
		return &unix.SockaddrInet4{Port: port, Addr: ip}
	case family == unix.AF_INET6 && len(b) >= 24 && [16]byte(b[8:24]) == [16]byte{}:
		mapped := &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff}}
		copy(mapped.Addr[12:], ip[:])
		return mapped
	}
	return nil
}
