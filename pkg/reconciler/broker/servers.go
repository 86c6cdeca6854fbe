package broker

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/child"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

const (
	labelName      = "app.kubernetes.io/name"
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelComponent = "app.kubernetes.io/component" // eventbus or clustereventbus
	labelBus       = "events.openfunction.io/bus"

	container  = "bus"
	dataPath   = "/var/lib/openfunction"
	accessPath = "/etc/openfunction/bus"

	// user is that of the image, which owns the volume.
	user = 65532
)

// servers are those of one bus.
type servers struct {
	bus   kmeta.OwnerRefable
	spec  *v1alpha1.EmbeddedSpec
	place Place
}

func (s servers) replicas() int { return replicas(s.spec) }

func (s servers) owned(kind string) child.ID {
	return child.ID{Kind: kind, Namespace: s.place.Namespace, Name: s.place.Name, Owner: s.bus}
}

func (s servers) labels() map[string]string {
	l := s.selector()
	l[labelManagedBy] = "events-controller"
	return l
}

// selector finds the pods.
func (s servers) selector() map[string]string {
	return map[string]string{
		labelName:      "openfunction-events",
		labelComponent: strings.ToLower(s.bus.GetGroupVersionKind().Kind),
		labelBus:       s.bus.GetObjectMeta().GetName(),
	}
}

// fillService gives each server a name that lasts, from its start on: members need each other before they are ready.
func (s servers) fillService(o *corev1.Service) error {
	child.FillMeta(o, s.labels(), s.bus)
	o.Spec.ClusterIP = corev1.ClusterIPNone
	o.Spec.PublishNotReadyAddresses = true
	o.Spec.Selector = s.selector()
	o.Spec.Ports = nil
	for _, p := range s.ports()[1:] {
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{Name: p.Name, Port: p.ContainerPort, TargetPort: intstr.FromString(p.Name), Protocol: p.Protocol})
	}
	return nil
}

// ports begin with that of probes, which is nobody else's.
func (s servers) ports() []corev1.ContainerPort {
	ports := []corev1.ContainerPort{
		{Name: "probes", ContainerPort: adminPort, Protocol: corev1.ProtocolTCP},
		{Name: "clients", ContainerPort: clientPort, Protocol: corev1.ProtocolTCP},
	}
	if s.replicas() > 1 {
		ports = append(ports, corev1.ContainerPort{Name: "members", ContainerPort: clusterPort, Protocol: corev1.ProtocolTCP})
	}
	return ports
}

// fillBudget has nodes drained one server at a time.
func (s servers) fillBudget(o *policyv1.PodDisruptionBudget) error {
	child.FillMeta(o, s.labels(), s.bus)
	one, always := intstr.FromInt32(1), policyv1.AlwaysAllow
	o.Spec.MaxUnavailable = &one
	o.Spec.UnhealthyPodEvictionPolicy = &always
	o.Spec.Selector = &metav1.LabelSelector{MatchLabels: s.selector()}
	return nil
}

// fillStatefulSet returns what makes a StatefulSet that of s. Others may add labels, annotations, containers and volumes. What it sets has
// the defaults of the API server written out, so that it finds the next time what it set.
func (s servers) fillStatefulSet(image string, pull workload.PullSecrets) func(*appsv1.StatefulSet) error {
	return func(o *appsv1.StatefulSet) error {
		sync, err := s.spec.Sync()
		if err != nil {
			return err
		}
		child.FillMeta(o, s.labels(), s.bus)
		o.Spec.Replicas = new(int32(s.replicas()))
		o.Spec.ServiceName = s.place.Name
		o.Spec.Selector = &metav1.LabelSelector{MatchLabels: s.selector()}
		// Members are ready when most of them are there, so none can wait for another.
		o.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		o.Spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		o.Spec.RevisionHistoryLimit = new(int32(2))
		// The volumes hold events: they outlive the bus, and one of the same name finds them again.
		o.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
		}
		if len(o.Spec.VolumeClaimTemplates) == 0 { // they cannot be changed
			o.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{s.claim()}
		}
		o.Spec.Template.Labels = child.Merged(o.Spec.Template.Labels, s.labels())
		pull.Fill(&o.Spec.Template)
		pod := &o.Spec.Template.Spec
		pod.AutomountServiceAccountToken = new(false)
		pod.EnableServiceLinks = new(false)
		pod.TerminationGracePeriodSeconds = new(int64(60))
		change := corev1.FSGroupChangeOnRootMismatch
		pod.SecurityContext = &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), FSGroup: new(int64(user)), FSGroupChangePolicy: &change, SeccompProfile: child.Seccomp(),
		}
		pod.Affinity = s.apart()
		pod.Containers = child.With(pod.Containers, s.container(image, sync.String()), func(c corev1.Container) string { return c.Name })
		pod.Volumes = child.With(pod.Volumes, s.access(), func(v corev1.Volume) string { return v.Name })
		return nil
	}
}

func (s servers) claim() corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: s.labels()},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: s.spec.StorageClassName,
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *s.spec.Storage}},
		},
	}
}

// apart wants the servers on nodes of their own, where there are enough.
func (s servers) apart() *corev1.Affinity {
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight: 100,
			PodAffinityTerm: corev1.PodAffinityTerm{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: s.selector()},
			},
		}},
	}}
}

func (s servers) container(image, syncInterval string) corev1.Container {
	c := corev1.Container{
		Name:            container,
		Image:           image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Env: []corev1.EnvVar{
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
			// Servers that are alone and members of a cluster cannot read what the others wrote, should the volume be an earlier bus's.
			{Name: "DATA_DIR", Value: fmt.Sprintf("%s/%d", dataPath, s.replicas())},
			{Name: "ACCESS_DIR", Value: accessPath},
			{Name: "SYNC_INTERVAL", Value: syncInterval},
			{Name: "MAX_BYTES", Value: strconv.FormatInt(room(s.spec), 10)},
			{Name: "GOMEMLIMIT", Value: "400MiB"},
		},
		Ports: s.ports(),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
		},
		ReadinessProbe: probe("/readyz", corev1.Probe{PeriodSeconds: 2, FailureThreshold: 3}),
		LivenessProbe:  probe("/healthz", corev1.Probe{InitialDelaySeconds: 20, PeriodSeconds: 10, FailureThreshold: 6}),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "data", MountPath: dataPath},
			{Name: "access", MountPath: accessPath, ReadOnly: true},
		},
		SecurityContext:        child.Restricted(),
		TerminationMessagePath: corev1.TerminationMessagePathDefault,
		// A server that cannot start says why in its log.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if s.replicas() > 1 {
		c.Env = append(c.Env, corev1.EnvVar{Name: "CLUSTER", Value: s.place.Name},
			corev1.EnvVar{Name: "MEMBERS", Value: strings.Join(s.place.addresses(s.replicas(), clusterPort), ",")})
	}
	return c
}

// access shows a server what it needs of the Secret: the authority's key it does not.
func (s servers) access() corev1.Volume {
	v := &corev1.SecretVolumeSource{SecretName: s.place.Name, DefaultMode: new(corev1.SecretVolumeSourceDefaultMode), Optional: new(false)}
	for _, key := range []string{keyUsername, keyPassword, keyCA, keyCert, keyKey} {
		v.Items = append(v.Items, corev1.KeyToPath{Key: key, Path: key})
	}
	return corev1.Volume{Name: "access", VolumeSource: corev1.VolumeSource{Secret: v}}
}

func probe(path string, p corev1.Probe) *corev1.Probe {
	p.HTTPGet = &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("probes"), Scheme: corev1.URISchemeHTTP}
	p.TimeoutSeconds, p.SuccessThreshold = 1, 1
	return &p
}
