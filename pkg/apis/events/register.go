// Package events names the API group.
package events

// GroupName is the API group of all our kinds.
const GroupName = "events.openfunction.io"
