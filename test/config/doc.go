// Package config checks what config/ ships: that it is safe, modest and whole, and that a release is the same.
package config
