//go:build e2e

package cluster

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/openfunction/events/test/config"
	"github.com/openfunction/events/test/servers"
)

// audit has what all tests asked their API servers for; nil if none was started.
var audit *config.Audit

// cluster starts a cluster that is audited, unless it is somebody else's.
func cluster(t *testing.T, flags ...string) *servers.KubernetesCluster {
	t.Helper()
	c := servers.Kubernetes(t, flags...)
	if os.Getenv("KUBECONFIG") != "" {
		return c
	}
	if audit == nil {
		audit = config.NewAudit(t)
	}
	t.Cleanup(func() { audit.Read(c.AuditLog()) })
	return c
}

// allRan tells whether no flag left out a test: every name begins with TestE2E.
func allRan() bool {
	all, err := regexp.MatchString(flag.Lookup("test.run").Value.String(), "TestE2E")
	return err == nil && all && flag.Lookup("test.skip").Value.String() == ""
}

// onlyNeeded tells whether the tests, all together, have used every right that config/ grants, and wanted no other, and says what is wrong.
func onlyNeeded() bool {
	if audit == nil {
		return true
	}
	faults := audit.Faults()
	for _, fault := range faults {
		fmt.Println("FAIL: rights:", fault)
	}
	return len(faults) == 0
}
