// Package webhook admits objects: it says which types are admitted on which paths, and has no rules of its own.
package webhook

import (
	"context"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/leaderelection"
	"knative.dev/pkg/logging"
	o11yconfigmap "knative.dev/pkg/observability/configmap"
	"knative.dev/pkg/reconciler"
	kwebhook "knative.dev/pkg/webhook"
	"knative.dev/pkg/webhook/certificates"
	"knative.dev/pkg/webhook/configmaps"
	"knative.dev/pkg/webhook/resourcesemantics"

	"github.com/openfunction/events/pkg/apis/config"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// The names of the webhook configurations that config/ ships, which are the names of their webhooks too.
const (
	DefaultingName = "webhook.events.openfunction.io"
	ValidationName = "validation.webhook.events.openfunction.io"
	ConfigName     = "config.webhook.events.openfunction.io"
)

// The paths on which the webhooks are served.
const (
	DefaultingPath = "/defaulting"
	ValidationPath = "/resource-validation"
	ConfigPath     = "/config-validation"
)

// kinds are what is admitted.
var kinds = map[schema.GroupVersionKind]resourcesemantics.GenericCRD{
	v1alpha1.SchemeGroupVersion.WithKind("EventSource"):     &v1alpha1.EventSource{},
	v1alpha1.SchemeGroupVersion.WithKind("EventBus"):        &v1alpha1.EventBus{},
	v1alpha1.SchemeGroupVersion.WithKind("ClusterEventBus"): &v1alpha1.ClusterEventBus{},
	v1alpha1.SchemeGroupVersion.WithKind("Trigger"):         &v1alpha1.Trigger{},
}

// Constructors returns all that the webhook process runs. Each wants a context with injection and with webhook options.
func Constructors() []injection.ControllerConstructor {
	return []injection.ControllerConstructor{certificates.NewController, NewDefaulting, NewValidation, NewConfig}
}

// NewConfig refuses settings that our processes could not read.
func NewConfig(ctx context.Context, _ configmap.Watcher) *controller.Impl {
	return configmaps.NewAdmissionController(ctx, ConfigName, ConfigPath, configmap.Constructors{
		logging.ConfigMapName():        newLogging,
		leaderelection.ConfigMapName(): leaderelection.NewConfigFromConfigMap,
		o11yconfigmap.Name():           o11yconfigmap.Parse,
		config.DefaultsName:            config.NewDefaultsFromConfigMap,
	})
}

// admission is what Knative's admission controllers are.
type admission interface {
	controller.Reconciler
	reconciler.LeaderAware
	kwebhook.AdmissionController
}

// registered is a type as it is registered for validation: not for its status, which only the controller writes and which must never be
// held up, and for deletion only where somebody asks.
type registered struct {
	resourcesemantics.GenericCRD
	verbs []admissionregistrationv1.OperationType
}

var (
	_ resourcesemantics.VerbLimited        = registered{}
	_ resourcesemantics.SubResourceLimited = registered{}
)

func (r registered) SupportedVerbs() []admissionregistrationv1.OperationType { return r.verbs }

func (registered) SupportedSubResources() []string { return []string{""} }

func allow() *admissionv1.AdmissionResponse { return &admissionv1.AdmissionResponse{Allowed: true} }
