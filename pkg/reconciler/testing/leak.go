package testing

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgotesting "k8s.io/client-go/testing"
)

// values are those of Secret.
var values = []string{"hunter2", "t0ken"}

// leaks are the written objects, but Secrets, the Events, the error and the lines of the log that show one of the values.
func leaks(actions []clientgotesting.Action, p Pass, logs []observer.LoggedEntry) []string {
	said := append([]string{fmt.Sprint(p.Err)}, p.Events...)
	for _, a := range actions {
		said = append(said, written(a))
	}
	for _, entry := range logs {
		said = append(said, fmt.Sprintf("%s %+v", entry.Message, entry.ContextMap()))
	}
	var found []string
	for _, text := range said {
		for _, value := range values {
			if strings.Contains(text, value) {
				found = append(found, text)
			}
		}
	}
	return found
}

// written is what an action writes as text, nothing for a Secret.
func written(a clientgotesting.Action) string {
	var o runtime.Object
	switch a := a.(type) {
	case clientgotesting.CreateActionImpl:
		o = a.Object
	case clientgotesting.UpdateActionImpl:
		o = a.Object
	case clientgotesting.PatchActionImpl:
		if a.Resource.Resource != "secrets" {
			return string(a.Patch)
		}
	}
	if _, secret := o.(*corev1.Secret); o == nil || secret {
		return ""
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // they come from JSON
	}
	if a.GetSubresource() == "status" { // the rest is the user's own
		var part struct{ Status json.RawMessage }
		if err := json.Unmarshal(text, &part); err != nil {
			panic(err)
		}
		return string(part.Status)
	}
	return string(text)
}
