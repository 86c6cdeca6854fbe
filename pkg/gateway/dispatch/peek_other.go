//go:build !unix

package dispatch

// nothingToRead cannot tell here.
func nothingToRead(uintptr) bool { return true }
