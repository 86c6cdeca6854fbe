package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	protected = "an API server that protects owners, as those of our tests do, asks for it when a child with this owner is written"
	given     = "such an API server asks for it when what exists is given an owner"
	conflict  = "to write a status again after a conflict, which is seen for EventSources and Triggers, but seldom for buses"
)

// unseen are the rights that no request has to use, and why they are needed all the same.
var unseen = map[string]string{
	"openfunction/events-controller update eventsources/finalizers.events.openfunction.io":      protected,
	"openfunction/events-controller update triggers/finalizers.events.openfunction.io":          protected,
	"openfunction/events-controller update eventbuses/finalizers.events.openfunction.io":        protected,
	"openfunction/events-controller update clustereventbuses/finalizers.events.openfunction.io": protected,
	"openfunction/events-webhook update namespaces/finalizers openfunction":                     protected,

	"openfunction/events-webhook delete mutatingwebhookconfigurations.admissionregistration.k8s.io webhook.events.openfunction.io":              given,
	"openfunction/events-webhook delete validatingwebhookconfigurations.admissionregistration.k8s.io validation.webhook.events.openfunction.io": given,
	"openfunction/events-webhook delete validatingwebhookconfigurations.admissionregistration.k8s.io config.webhook.events.openfunction.io":     given,

	"openfunction/events-controller get eventbuses.events.openfunction.io":        conflict,
	"openfunction/events-controller get clustereventbuses.events.openfunction.io": conflict,
}

// early are what is asked for before others grant it, which tests have the controller do: a kind of sinks is read as soon as an object names it,
// and may be read once a role says that it is addressable.
var early = []string{
	"openfunction/events-controller list services.serving.knative.dev",
	"openfunction/events-controller watch services.serving.knative.dev",
}

// Audit compares what our accounts may do with what they asked API servers for.
type Audit struct {
	rights []Right
	used   map[Right]bool
	faults map[string]bool
}

// NewAudit returns an Audit of the Rights.
func NewAudit(t testing.TB) *Audit {
	t.Helper()
	return &Audit{rights: Rights(t), used: map[Right]bool{}, faults: map[string]bool{}}
}

// auditEvent is what matters here of an Event of audit.k8s.io/v1.
type auditEvent struct {
	Verb           string
	User           struct{ Username string }
	ObjectRef      struct{ Resource, Subresource, APIGroup, Namespace, Name string }
	ResponseStatus struct {
		Code    int
		Message string
	}
	Annotations map[string]string
}

// asked is the right that is needed for a request.
func (e *auditEvent) asked() Right {
	o := e.ObjectRef
	if o.Subresource != "" {
		o.Resource += "/" + o.Subresource
	}
	if o.Resource == "namespaces" {
		o.Namespace = "" // the log has its own name here
	}
	return Right{
		Account:   strings.Replace(strings.TrimPrefix(e.User.Username, "system:serviceaccount:"), ":", "/", 1),
		Namespace: o.Namespace,
		Verb:      e.Verb,
		Resource:  schema.GroupResource{Group: o.APIGroup, Resource: o.Resource}.String(),
		Name:      o.Name,
	}.general()
}

// Read takes note of what an API server logged.
func (a *Audit) Read(log []byte) {
	for line := range bytes.Lines(log) {
		var e auditEvent
		// A line is cut if the server was killed then, or writes it just now. What is no object everybody may ask for.
		if err := json.Unmarshal(line, &e); err == nil && e.ObjectRef.Resource != "" {
			a.note(&e)
		}
	}
}

func (a *Audit) note(e *auditEvent) {
	asked := e.asked()
	i := slices.IndexFunc(a.rights, func(r Right) bool { return r.allows(asked) })
	switch {
	case e.Annotations["authorization.k8s.io/decision"] == "forbid":
		// What is granted is forbidden for a moment when it is new, when it goes, and when an API server starts.
		if request := asked.Account + " " + asked.String(); i < 0 && !slices.Contains(early, request) {
			a.faults[request+": was asked for, and no role allows it"] = true
		}
	case e.ResponseStatus.Code == http.StatusForbidden:
		// A namespace or a definition that goes takes nothing new, whoever asks.
		if m := e.ResponseStatus.Message; !strings.Contains(m, "is being terminated") && !strings.Contains(m, "is terminating") {
			a.faults[fmt.Sprintf("%s %s: was refused: %s", asked.Account, asked, m)] = true
		}
	case i >= 0:
		// What is only asked for in our own namespace need not be granted everywhere.
		if r := a.rights[i]; r.Namespace != "" || asked.Namespace != ours {
			a.used[r] = true
		}
	}
}

// Faults are rights that no request has used, and requests that were refused.
func (a *Audit) Faults() []string {
	faults, gone := slices.Collect(maps.Keys(a.faults)), maps.Clone(unseen)
	for _, r := range a.rights {
		right := r.Account + " " + r.String()
		delete(gone, right)
		if r.Account != "" && !a.used[r] && unseen[right] == "" {
			faults = append(faults, fmt.Sprintf("%s lets %s, and no request has used that", r.Role, right))
		}
	}
	for right := range gone {
		faults = append(faults, right+": is not granted, so there is nothing to explain")
	}
	slices.Sort(faults)
	return faults
}
