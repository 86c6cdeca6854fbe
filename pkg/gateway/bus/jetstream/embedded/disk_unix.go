//go:build darwin || linux

package embedded

import "syscall"

// disk returns how many bytes are free for us on the disk of dir, and how many it has in all.
func disk(dir string) (free, all uint64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, false
	}
	size := uint64(st.Bsize)
	return st.Bavail * size, st.Blocks * size, true
}
