package workload

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/child"
)

const (
	container = "gateway"
	volume    = "plan"
	mountPath = "/etc/openfunction/plan"
	adminPort = 8081
	// metricsPort is where a gateway serves its metrics.
	metricsPort = 9090

	envLogLevel = "LOG_LEVEL"

	// annotationAccount of a pod is the UID of its ServiceAccount. When that is deleted the pod's token is void, also once there is another
	// one of that name, and the gateway could not read its plan: so the pod is replaced.
	annotationAccount = "events.openfunction.io/service-account"
)

// fillDeployment returns what makes a Deployment that of w. Others may add labels, annotations, containers and volumes. What it sets has
// the defaults of the API server written out, so that it finds the next time what it set.
func (c *Clients) fillDeployment(w Workload, account types.UID) func(*appsv1.Deployment) error {
	return func(d *appsv1.Deployment) error {
		child.FillMeta(d, w.labels(), w.Owner)
		if !w.Scaled || w.alone || d.Spec.Replicas == nil {
			d.Spec.Replicas = new(int32(1))
		}
		d.Spec.Strategy = w.strategy()
		d.Spec.RevisionHistoryLimit = new(int32(2))
		d.Spec.ProgressDeadlineSeconds = new(int32(600))
		d.Spec.Selector = &metav1.LabelSelector{MatchLabels: w.selector()}
		d.Spec.Template.Labels = child.Merged(d.Spec.Template.Labels, w.labels())
		d.Spec.Template.Annotations = child.Merged(d.Spec.Template.Annotations, map[string]string{annotationAccount: string(account)})
		c.PullSecrets.Fill(&d.Spec.Template)

		pod := &d.Spec.Template.Spec
		pod.ServiceAccountName = w.Name
		pod.DeprecatedServiceAccount = w.Name
		pod.AutomountServiceAccountToken = new(true)
		pod.EnableServiceLinks = new(false)
		pod.TerminationGracePeriodSeconds = new(int64(60))
		pod.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: child.Seccomp()}
		pod.Containers = child.With(pod.Containers, w.container(c.Image), func(o corev1.Container) string { return o.Name })
		pod.Volumes = child.With(pod.Volumes, w.volume(), func(v corev1.Volume) string { return v.Name })
		return nil
	}
}

// strategy never has two pods of a Trigger share a subscription, which would tear joins apart, and never none receive for an EventSource.
func (w Workload) strategy() appsv1.DeploymentStrategy {
	if w.alone {
		return appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	r := &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}
	if w.Component == "trigger" {
		r = &appsv1.RollingUpdateDeployment{MaxSurge: &none, MaxUnavailable: &one}
	}
	return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: r}
}

// Alone tells whether only one process may run p: a durable subscription belongs to a client id of its bus, and not to a group, or a session
// to a client id of an MQTT broker, also with a group. Only one process can have the id, and whoever comes next must have the same, or
// what waits for it would wait for ever.
func Alone(p *plan.Plan) bool {
	single := func(bus string) bool {
		return slices.ContainsFunc(p.Buses, func(b plan.Bus) bool { return b.Name == bus && b.NATSStreaming != nil && !b.NATSStreaming.Queue })
	}
	return slices.ContainsFunc(p.Sources, func(s plan.Source) bool { return s.MQTT != nil }) ||
		slices.ContainsFunc(p.Subscribers, func(s plan.Subscriber) bool { return single(s.Bus) }) ||
		slices.ContainsFunc(p.Retired, func(r plan.Retired) bool { return single(r.Bus) })
}

func (w Workload) container(image string) corev1.Container {
	c := corev1.Container{
		Name:            container,
		Image:           image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Env: []corev1.EnvVar{
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
			{Name: "PLAN_SECRET", Value: w.namespace() + "/" + w.Name},
			{Name: "PLAN_FILE", Value: mountPath + "/" + plan.SecretKey},
			{Name: "LISTEN"}, // Events over HTTP come to the shared gateway.
			{Name: "ADMIN_LISTEN", Value: ":8081"},
			{Name: "METRICS_LISTEN", Value: ":9090"},
			{Name: "READY", Value: "flowing"},
			{Name: "RETIRE", Value: "true"},
			{Name: envLogLevel, Value: cmp.Or(w.LogLevel, "info")},
			{Name: "GOMEMLIMIT", Value: "220MiB"}, // of the limit below; what the gateway holds of events is a part of it
		},
		Ports: []corev1.ContainerPort{
			{Name: "admin", ContainerPort: adminPort, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: metricsPort, Protocol: corev1.ProtocolTCP},
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		ReadinessProbe:         probe("/readyz", corev1.Probe{PeriodSeconds: 2, FailureThreshold: 3}),
		LivenessProbe:          probe("/healthz", corev1.Probe{InitialDelaySeconds: 20, PeriodSeconds: 10, FailureThreshold: 6}),
		VolumeMounts:           []corev1.VolumeMount{{Name: volume, MountPath: mountPath, ReadOnly: true}},
		SecurityContext:        child.Restricted(),
		TerminationMessagePath: corev1.TerminationMessagePathDefault,
		// A gateway that cannot start says why in its log.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if w.alone {
		c.Env = append(c.Env, corev1.EnvVar{Name: "INSTANCE", Value: w.namespace() + "/" + w.Name})
	}
	return c
}

func (w Workload) volume() corev1.Volume {
	return corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: w.Name, DefaultMode: new(corev1.SecretVolumeSourceDefaultMode), Optional: new(false)},
	}}
}

func probe(path string, p corev1.Probe) *corev1.Probe {
	p.HTTPGet = &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("admin"), Scheme: corev1.URISchemeHTTP}
	p.TimeoutSeconds, p.SuccessThreshold = 3, 1 // a node may be busy with the start of hundreds
	return &p
}
