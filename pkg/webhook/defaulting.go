package webhook

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	kwebhook "knative.dev/pkg/webhook"
	"knative.dev/pkg/webhook/resourcesemantics/defaulting"

	"github.com/openfunction/events/pkg/apis/config"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// NewDefaulting fills in what objects leave out.
//
// Unknown fields are not its business: the API server has dropped or refused them before it asks, with their paths. What it does not know
// was written by a newer version of ours, during an upgrade.
func NewDefaulting(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
	settings := config.NewStore(logging.FromContext(ctx))
	settings.Watch(cmw)
	within := func(ctx context.Context) context.Context { return v1alpha1.Stored(settings.ToContext(ctx)) }
	impl := defaulting.NewAdmissionController(ctx, DefaultingName, DefaultingPath, kinds, within, false)
	impl.Reconciler = &defaulter{admission: impl.Reconciler.(admission)}
	return impl
}

// defaulter leaves alone what is not its own: writes to the status, specs that do not change (a label must not bring the defaults of another
// day), and objects that the types cannot read. The API server asks before it has checked types; when nobody objects, it checks them and
// says which field has a wrong one.
type defaulter struct {
	admission
	kwebhook.StatelessAdmissionImpl
}

// Admit returns the patch that adds the defaults.
func (d *defaulter) Admit(ctx context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if request.SubResource != "" || request.Operation == admissionv1.Update && sameSpec(request) {
		return allow()
	}
	if o, ok := newObject(request.Kind); ok && json.Unmarshal(request.Object.Raw, o) != nil {
		return allow()
	}
	if old, ok := newObject(request.Kind); ok && json.Unmarshal(request.OldObject.Raw, old) != nil {
		// Defaults do not depend on it, and what came from elsewhere must be mendable.
		without := *request
		without.OldObject = runtime.RawExtension{}
		request = &without
	}
	response := d.admission.Admit(ctx, request)
	response.Patch = addOnly(response.Patch, request.Object.Raw)
	return response
}

// addOnly leaves of a patch of o what adds to it: defaults, and the required fields that validation will ask for. Knative's admission also
// replaces what a user wrote by what the types make of it, 1024Mi by 1Gi, and removes what is false or empty: kubectl apply would never find
// again what was applied. Only of a spec with nulls, which its definition would refuse, all is done.
func addOnly(patch, o []byte) []byte {
	var operations []map[string]json.RawMessage
	var fields struct{ Spec any }
	if json.Unmarshal(patch, &operations) != nil || json.Unmarshal(o, &fields) != nil || holdsNull(fields.Spec) {
		return patch
	}
	left, err := json.Marshal(slices.DeleteFunc(operations, func(operation map[string]json.RawMessage) bool { return string(operation["op"]) != `"add"` }))
	if err != nil {
		return patch
	}
	return left
}

func holdsNull(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), holdsNull)
	case []any:
		return slices.ContainsFunc(v, holdsNull)
	}
	return value == nil
}
