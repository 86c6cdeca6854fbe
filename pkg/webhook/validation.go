package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/webhook/resourcesemantics"
	"knative.dev/pkg/webhook/resourcesemantics/validation"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// NewValidation refuses objects that cannot work, and what would take the events that wait on a bus from its users.
func NewValidation(ctx context.Context, _ configmap.Watcher) *controller.Impl {
	handlers := map[schema.GroupVersionKind]resourcesemantics.GenericCRD{}
	for gvk, o := range kinds {
		r := registered{o, []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}}
		if isBus(gvk.Kind) {
			r.verbs = append(r.verbs, admissionregistrationv1.Delete)
		}
		handlers[gvk] = r
	}
	impl := validation.NewAdmissionController(ctx, ValidationName, ValidationPath, handlers, nil, false)
	impl.Reconciler = &validator{admission: impl.Reconciler.(admission), users: newUsers(ctx)}
	return impl
}

// validator answers in the words of `events validate`: one line per problem, its path first, and warnings apart. It waits for the
// informers of users, so it is not stateless.
type validator struct {
	admission
	users *users
}

// Admit says whether the object may be as it is.
func (v *validator) Admit(ctx context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	o, ok := newObject(request.Kind)
	switch {
	case !ok:
		return refuse(request, v1alpha1.Problem{Path: "kind", Message: fmt.Sprintf("%s is not known to this version", request.Kind.Kind)})
	case request.SubResource != "":
		return allow()
	case request.Operation == admissionv1.Delete:
		return v.admitDelete(request)
	case request.Operation == admissionv1.Create:
		ctx = apis.WithinCreate(ctx)
	case request.Operation == admissionv1.Update:
		if sameSpec(request) {
			return allow()
		}
		var err error
		if ctx, err = v.withUsers(withOld(ctx, request), request); err != nil {
			return conflict(request, request.Name, fmt.Sprintf("cannot find out who uses it: %v", err))
		}
	default:
		return allow()
	}
	if err := json.Unmarshal(request.Object.Raw, o); err != nil {
		return refuse(request, v1alpha1.Problem{Path: "spec", Message: fmt.Sprintf("cannot be read: %v", err)})
	}
	response := answer(request, v1alpha1.Flatten(o.Validate(ctx)))
	if eb, ok := o.(*v1alpha1.EventBus); ok && response.Allowed && request.Operation == admissionv1.Create {
		if refusal := v.admitInPlace(request, eb); refusal != nil {
			return refusal
		}
	}
	return response
}

// newObject returns an empty object of the kind.
func newObject(kind metav1.GroupVersionKind) (resourcesemantics.GenericCRD, bool) {
	o, ok := kinds[schema.GroupVersionKind(kind)]
	if !ok {
		return nil, false
	}
	return o.DeepCopyObject().(resourcesemantics.GenericCRD), true
}

// withOld lets validation see what is there now. An object that no version of ours could have stored counts as none.
func withOld(ctx context.Context, request *admissionv1.AdmissionRequest) context.Context {
	old, _ := newObject(request.Kind)
	if err := json.Unmarshal(request.OldObject.Raw, old); err != nil {
		return apis.WithinUpdate(ctx, nil)
	}
	return apis.WithinUpdate(ctx, old)
}

// sameSpec reports whether an update leaves the spec alone. Such an update is never refused, readable or not: otherwise an object that
// came from elsewhere could not even lose its finalizer.
func sameSpec(request *admissionv1.AdmissionRequest) bool {
	var o, old struct{ Spec any }
	return json.Unmarshal(request.Object.Raw, &o) == nil && json.Unmarshal(request.OldObject.Raw, &old) == nil &&
		reflect.DeepEqual(o.Spec, old.Spec)
}

func answer(request *admissionv1.AdmissionRequest, problems []v1alpha1.Problem) *admissionv1.AdmissionResponse {
	var errs []v1alpha1.Problem
	var warnings []string
	for _, p := range problems {
		if p.Warning {
			warnings = append(warnings, p.String())
		} else {
			errs = append(errs, p)
		}
	}
	response := allow()
	if len(errs) > 0 {
		response = refuse(request, errs...)
	}
	response.Warnings = warnings
	return response
}

// refuse says why in two forms: as lines for who reads the message, and as causes, which kubectl lists by field.
func refuse(request *admissionv1.AdmissionRequest, problems ...v1alpha1.Problem) *admissionv1.AdmissionResponse {
	details := &metav1.StatusDetails{Group: request.Kind.Group, Kind: request.Kind.Kind, Name: request.Name}
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
		details.Causes = append(details.Causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: p.Path, Message: p.Message})
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: strings.Join(lines, "\n"), Details: details,
	}}
}

func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
