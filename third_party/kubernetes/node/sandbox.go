package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// mount makes source, a path of the machine, appear at target in a container.
type mount struct {
	source   string
	target   string
	readOnly bool
}

// sandbox is what a process sees: the machine's files with the mounts over them, and the pod's address instead of every address.
type sandbox struct {
	root   string // an empty directory, where the file system is put together
	host   string // the host's name
	mounts []mount
	ip     [4]byte
}

// process is a container's process.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
}

// start starts cmd in the sandbox. The process dies with the node at the latest.
//
// A thread of its own gets a mount namespace, puts the file system together and forks: the child inherits all of it, so that no
// second program is needed. The thread ends with the child, because nothing undoes what was done to it.
func (s sandbox) start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.exited)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		listener, err := s.enter()
		if err != nil {
			started <- err
			return
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			listener.serve(s.ip)
		}()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		err = cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind
		}
		listener.stop()
		<-served
	}()
	if err := <-started; err != nil {
		<-p.exited
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// enter gives the calling thread the sandbox's view.
func (s sandbox) enter() (*bindListener, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("unshare the mount and host name namespaces, which needs root: %w", err)
	}
	if err := unix.Sethostname([]byte(s.host)); err != nil {
		return nil, fmt.Errorf("set the host's name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := mirror("/", s.root); err != nil {
		return nil, err
	}
	if err := unix.Chroot(s.root); err != nil {
		return nil, fmt.Errorf("chroot %s: %w", s.root, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return nil, err
	}
	for _, m := range s.mounts {
		if err := m.bind(); err != nil {
			return nil, err
		}
	}
	return listenBinds()
}

// mirror makes target a file system in memory with every entry of source in it, to which entries can be added.
func mirror(source, target string) error {
	entries, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", target, err)
	}
	// Or a recursive bind of the folder that target is in would have itself in it.
	if err := unix.Mount("", target, "", unix.MS_UNBINDABLE, ""); err != nil {
		return fmt.Errorf("make %s unbindable: %w", target, err)
	}
	defer func() { _ = unix.Mount("", target, "", unix.MS_PRIVATE, "") }()
	for _, e := range entries {
		if err := mirrorEntry(filepath.Join(source, e.Name()), filepath.Join(target, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func mirrorEntry(source, target string, e os.DirEntry) error {
	switch {
	case e.Type()&os.ModeSymlink != 0:
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	case e.IsDir():
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(target, nil, 0o644); err != nil {
			return err
		}
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// bind makes the mount's target, without a trace on the machine's disk, and mounts over it.
func (m mount) bind() error {
	info, err := os.Stat(m.source)
	if err != nil {
		return fmt.Errorf("mount at %s: %w", m.target, err)
	}
	if err := makeTarget(m.target, info.IsDir()); err != nil {
		return fmt.Errorf("mount at %s: %w", m.target, err)
	}
	if err := unix.Mount(m.source, m.target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s at %s: %w", m.source, m.target, err)
	}
	if !m.readOnly {
		return nil
	}
	if err := unix.Mount("", m.target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", m.target, err)
	}
	return nil
}

// makeTarget makes the folder or file path, after a mirror of the deepest folder of it that exists.
func makeTarget(path string, folder bool) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	parent := filepath.Dir(path)
	for parent != "/" {
		if _, err := os.Stat(parent); err == nil {
			break
		}
		parent = filepath.Dir(parent)
	}
	if err := mirrorInPlace(parent); err != nil {
		return err
	}
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}

// mirrorInPlace mounts a mirror of path over path.
func mirrorInPlace(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if path == "/" {
		return nil // a mirror already
	}
	if err := os.MkdirAll(stash, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(path, stash, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s at %s: %w", path, stash, err)
	}
	defer func() { _ = errors.Join(unix.Unmount(stash, unix.MNT_DETACH), os.Remove(stash)) }()
	return mirror(stash, path)
}

// stash is where a folder stays reachable while its mirror is made.
const stash = "/.stash"
