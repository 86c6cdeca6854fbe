// Package source is what a kind of event source must do for the data plane.
package source

import (
	"context"

	"github.com/openfunction/events/pkg/event"
)

// KindExtension is the extension attribute that tells apart the events of two kinds that have one name.
const KindExtension = event.KindExtension

// Source takes events from somewhere and hands them on.
type Source interface {
	// Run hands events to next until ctx is done, then waits for those in flight and returns nil. It acknowledges an event where it came
	// from only after next returned nil for it; when next fails, it tries again after a moment. What is refused for good (event.IsPermanent),
	// so that no dead letter has all of it, it logs and leaves behind, where somebody may find it if there is such a place: nothing would cure
	// it, and it would hold up the rest. It reconnects by itself: an error of Run is one that only a change of its configuration can cure. It calls ready with nil once the events from then on are not
	// missed, and with an error when it ceases to receive.
	Run(ctx context.Context, next event.Handler, ready func(error)) error
}

// Leaver is a Source for which its server keeps something until it comes back.
type Leaver interface {
	Source
	// Leave gives that up, since nobody comes back; what waits there goes to next. It is called after Run has returned, and tries once.
	Leave(ctx context.Context, next event.Handler) error
}
