package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volumes are one pod's, each a folder of its own. They are used by one goroutine.
type volumes struct {
	node   *node
	pod    *corev1.Pod
	dir    string
	tokens map[string]token  // by audience
	claims map[string]string // folders of claims, by name
}

type token struct {
	value string
	renew time.Time
}

// path is where the volume is on the machine.
func (v *volumes) path(volume corev1.Volume) string {
	if volume.HostPath != nil {
		return volume.HostPath.Path
	}
	if claim := volume.PersistentVolumeClaim; claim != nil {
		return v.claims[claim.ClaimName]
	}
	return filepath.Join(v.dir, volume.Name)
}

// show tells whether a volume shows the Secret or ConfigMap of that name.
func (v *volumes) show(k kind, name string) bool {
	return slices.ContainsFunc(v.pod.Spec.Volumes, func(volume corev1.Volume) bool {
		return slices.ContainsFunc(sources(volume), func(s corev1.VolumeProjection) bool {
			return k == secret && s.Secret != nil && s.Secret.Name == name || k == configMap && s.ConfigMap != nil && s.ConfigMap.Name == name
		})
	})
}

// sources are what a volume's files come from.
func sources(volume corev1.Volume) []corev1.VolumeProjection {
	switch {
	case volume.Secret != nil:
		return []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: volume.Secret.SecretName},
			Items:                volume.Secret.Items, Optional: volume.Secret.Optional,
		}}}
	case volume.ConfigMap != nil:
		return []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: volume.ConfigMap.LocalObjectReference,
			Items:                volume.ConfigMap.Items, Optional: volume.ConfigMap.Optional,
		}}}
	case volume.DownwardAPI != nil:
		return []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{Items: volume.DownwardAPI.Items}}}
	case volume.Projected != nil:
		return volume.Projected.Sources
	}
	return nil
}

// write makes every volume as it should be now. It is called again whenever something may have changed.
func (v *volumes) write(ctx context.Context) error {
	for _, volume := range v.pod.Spec.Volumes {
		if err := v.writeVolume(ctx, volume); err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

func (v *volumes) writeVolume(ctx context.Context, volume corev1.Volume) error {
	switch {
	case volume.HostPath != nil:
		return nil
	case volume.PersistentVolumeClaim != nil:
		return v.claim(ctx, volume.PersistentVolumeClaim.ClaimName)
	case volume.EmptyDir != nil:
		return os.MkdirAll(v.path(volume), 0o777)
	case volume.Secret == nil && volume.ConfigMap == nil && volume.DownwardAPI == nil && volume.Projected == nil:
		return fmt.Errorf("a kind of volume that the node does not know")
	}
	files := map[string]string{}
	for _, source := range sources(volume) {
		if err := v.project(ctx, source, files); err != nil {
			return err
		}
	}
	return writeAtomically(v.path(volume), files)
}

// claim finds the folder of a claim, which stays as long as the claim does. A claim without a volume gets one.
func (v *volumes) claim(ctx context.Context, name string) error {
	if v.claims[name] != "" {
		return nil
	}
	core := v.node.client.CoreV1()
	claim, err := core.PersistentVolumeClaims(v.pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	dir := filepath.Join(v.node.dir, "claims", string(claim.UID))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if claim.Status.Phase == corev1.ClaimBound {
		v.claims[name] = dir
		return nil
	}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "local-" + string(claim.UID)}}
	volume.Spec = corev1.PersistentVolumeSpec{
		Capacity: claim.Spec.Resources.Requests, AccessModes: claim.Spec.AccessModes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		ClaimRef:               &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: name, UID: claim.UID},
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}},
	}
	if claim.Spec.StorageClassName != nil {
		volume.Spec.StorageClassName = *claim.Spec.StorageClassName
	}
	if _, err := core.PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return fmt.Errorf("claim %s is not bound yet", name)
}

// project adds source's files to files.
func (v *volumes) project(ctx context.Context, source corev1.VolumeProjection, files map[string]string) error {
	var values map[string]string
	var items []corev1.KeyToPath
	var optional *bool
	var err error
	switch {
	case source.Secret != nil:
		items, optional = source.Secret.Items, source.Secret.Optional
		values, err = v.node.values(v.pod.Namespace, secret, source.Secret.Name, optional)
	case source.ConfigMap != nil:
		items, optional = source.ConfigMap.Items, source.ConfigMap.Optional
		values, err = v.node.values(v.pod.Namespace, configMap, source.ConfigMap.Name, optional)
	case source.ServiceAccountToken != nil:
		files[source.ServiceAccountToken.Path], err = v.token(ctx, source.ServiceAccountToken)
	case source.DownwardAPI != nil:
		for _, item := range source.DownwardAPI.Items {
			if item.FieldRef == nil {
				return fmt.Errorf("%s: only fieldRef is known", item.Path)
			}
			if files[item.Path], err = podField(v.pod, item.FieldRef.FieldPath); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("a projection that the node does not know")
	}
	if err != nil {
		return err
	}
	if items == nil {
		for key, value := range values {
			files[key] = value
		}
		return nil
	}
	for _, item := range items {
		value, ok := values[item.Key]
		if !ok && (optional == nil || !*optional) {
			return fmt.Errorf("there is no key %s", item.Key)
		}
		if ok {
			files[item.Path] = value
		}
	}
	return nil
}

// token is a token of the pod's service account, renewed before four fifths of its life have passed.
func (v *volumes) token(ctx context.Context, source *corev1.ServiceAccountTokenProjection) (string, error) {
	if t := v.tokens[source.Audience]; time.Now().Before(t.renew) {
		return t.value, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: v.pod.Name, UID: v.pod.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	got, err := v.node.client.CoreV1().ServiceAccounts(v.pod.Namespace).
		CreateToken(ctx, v.pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("token of %s: %w", v.pod.Spec.ServiceAccountName, err)
	}
	life := time.Until(got.Status.ExpirationTimestamp.Time)
	v.tokens[source.Audience] = token{value: got.Status.Token, renew: time.Now().Add(life * 4 / 5)}
	return got.Status.Token, nil
}
