package servers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// SmallDisk is a file system that can be filled.
type SmallDisk struct {
	// Dir is where it is mounted.
	Dir string

	t testing.TB
}

// Disk mounts a disk of so many MiB until the test ends.
func Disk(t testing.TB, mib int) *SmallDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("only root can mount a disk: run the e2e tests as root")
	}
	d := &SmallDisk{Dir: t.TempDir(), t: t}
	if err := syscall.Mount("tmpfs", d.Dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.Dir, 0); err != nil {
			t.Errorf("unmount %s: %v", d.Dir, err)
		}
	})
	return d
}

// LimitFiles lets the disk have so many more files than it has; zero is any number.
func (d *SmallDisk) LimitFiles(more uint64) {
	d.t.Helper()
	inodes := uint64(0)
	if more > 0 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(d.Dir, &st); err != nil {
			d.t.Fatal(err)
		}
		inodes = st.Files - st.Ffree + more
	}
	if err := syscall.Mount("tmpfs", d.Dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("nr_inodes=%d", inodes)); err != nil {
		d.t.Fatal(err)
	}
}

// Fill takes the room that the disk has left, but for so many MiB, and returns what gives it back.
func (d *SmallDisk) Fill(leave int64) (free func()) {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.Dir, "somebody-elses"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("fill the disk: %v", err)
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		err = f.Truncate(max(0, size-leave<<20))
	}
	if err != nil {
		d.t.Fatalf("fill the disk: %v", err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			d.t.Fatal(err)
		}
	}
}
