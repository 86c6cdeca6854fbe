package node

import (
	"fmt"
	"net"
	"os"
	"testing"
)

// TestListens is the process of TestSandboxBindsEveryAddressToThePods.
func TestListens(t *testing.T) {
	address := os.Getenv("TEST_LISTEN")
	if address == "" {
		return
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fmt.Println("listens on", l.Addr())
}
