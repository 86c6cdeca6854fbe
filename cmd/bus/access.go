package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
)

// readAccess reads a mounted Secret. Its error does not hold what is in it.
func readAccess(dir string) (embedded.Access, error) {
	var a embedded.Access
	for name, value := range map[string]*string{
		"username": &a.Username, "password": &a.Password, "ca.crt": &a.CACerts, "tls.crt": &a.Cert, "tls.key": &a.Key,
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return embedded.Access{}, fmt.Errorf("the Secret: %w", err)
		}
		*value = string(text)
	}
	return a, nil
}
