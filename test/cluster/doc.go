// Package cluster installs what config/ ships on a real Kubernetes, and uses it.
package cluster
