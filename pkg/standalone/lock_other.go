//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package standalone

import "os"

// lock does nothing where there is no flock: there, whoever starts two processes in one directory must know better.
func lock(*os.File) error { return nil }
