package objects

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxTold bounds what Told remembers.
const maxTold = 1 << 16

// Told remembers which status each object was last told to have: what a pass finds in the lister may be older than what the pass before
// it wrote, and one transition is one Kubernetes Event. It is safe for concurrent use.
type Told struct {
	mu   sync.Mutex
	last map[types.UID]corev1.ConditionStatus
}

// News reports whether the status of an object was not the last that it was asked about.
func (t *Told) News(id types.UID, status corev1.ConditionStatus) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last[id]; ok && last == status {
		return false
	}
	if t.last == nil || len(t.last) >= maxTold { // forgetting costs an Event that says nothing new
		t.last = map[types.UID]corev1.ConditionStatus{}
	}
	t.last[id] = status
	return true
}
