package node

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// environment is the container's environment in the order in which it was declared: envFrom, env, and what the node adds.
// A Secret or ConfigMap that is missing and not optional is an error.
func (n *node) environment(pod *corev1.Pod, c *corev1.Container) ([]string, map[string]string, error) {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(n.config.Host, "https://"))
	if err != nil {
		return nil, nil, err
	}
	env := map[string]string{
		"PATH":                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME":                    "/root",
		"HOSTNAME":                pod.Name,
		"POD_IP":                  pod.Status.PodIP,
		"LISTEN_HOST":             pod.Status.PodIP,
		"KUBERNETES_SERVICE_HOST": host,
		"KUBERNETES_SERVICE_PORT": port,
	}
	for _, from := range c.EnvFrom {
		values, err := n.envFrom(pod.Namespace, from)
		if err != nil {
			return nil, nil, err
		}
		for k, v := range values {
			env[from.Prefix+k] = v
		}
	}
	for _, e := range c.Env {
		value := expansion.Expand(e.Value, expansion.MappingFuncFor(env))
		if e.ValueFrom != nil {
			v, found, err := n.envValue(pod, c, e.ValueFrom)
			if err != nil {
				return nil, nil, fmt.Errorf("env %s: %w", e.Name, err)
			}
			if !found {
				continue
			}
			value = v
		}
		env[e.Name] = value
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list, env, nil
}

func (n *node) envFrom(namespace string, from corev1.EnvFromSource) (map[string]string, error) {
	switch {
	case from.ConfigMapRef != nil:
		return n.values(namespace, configMap, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		return n.values(namespace, secret, from.SecretRef.Name, from.SecretRef.Optional)
	}
	return nil, nil
}

func (n *node) envValue(pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource) (value string, found bool, err error) {
	var k kind
	var name, key string
	var optional *bool
	switch {
	case from.FieldRef != nil:
		value, err := podField(pod, from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err := resourceField(c, from.ResourceFieldRef)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		k, name, key, optional = configMap, from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Optional
	case from.SecretKeyRef != nil:
		k, name, key, optional = secret, from.SecretKeyRef.Name, from.SecretKeyRef.Key, from.SecretKeyRef.Optional
	default:
		return "", false, fmt.Errorf("a source that the node does not know")
	}
	values, err := n.values(pod.Namespace, k, name, optional)
	if err != nil {
		return "", false, err
	}
	value, found = values[key]
	if !found && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("%s %s has no key %s", k, name, key)
	}
	return value, found, nil
}

// podField is a field of the downward API.
func podField(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs", "status.hostIP":
		return pod.Status.PodIP, nil
	}
	for prefix, values := range map[string]map[string]string{"metadata.labels['": pod.Labels, "metadata.annotations['": pod.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix); ok {
			return values[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("field %s is not one that the node knows", path)
}

// resourceField is a limit or request in its base unit. Without one it is 1 for a processor and 1 GiB for memory: nothing is enforced.
func resourceField(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	which, name, _ := strings.Cut(ref.Resource, ".")
	list := c.Resources.Limits
	if which == "requests" {
		list = c.Resources.Requests
	}
	quantity, ok := list[corev1.ResourceName(name)]
	if !ok {
		quantity = capacity()[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor.MilliValue()
	if divisor == 0 {
		divisor = 1000
	}
	return fmt.Sprint((quantity.MilliValue() + divisor - 1) / divisor), nil
}

// kind says where values are.
type kind string

const (
	secret    kind = "secret"
	configMap kind = "configmap"
)

// values are those of a Secret or ConfigMap; none if it is missing and optional.
func (n *node) values(namespace string, k kind, name string, optional *bool) (map[string]string, error) {
	values := map[string]string{}
	var err error
	if k == secret {
		var s *corev1.Secret
		if s, err = n.secrets.Secrets(namespace).Get(name); err == nil {
			for key, v := range s.Data {
				values[key] = string(v)
			}
		}
	} else {
		var c *corev1.ConfigMap
		if c, err = n.configMaps.ConfigMaps(namespace).Get(name); err == nil {
			maps.Copy(values, c.Data)
			for key, v := range c.BinaryData {
				values[key] = string(v)
			}
		}
	}
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	return values, err
}
