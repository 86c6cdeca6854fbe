package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"knative.dev/pkg/system"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

const (
	clientPort  = 4222
	clusterPort = 6222
	adminPort   = 8081

	// ackWait is how long after a crash a join waits for what was held.
	ackWait     = 10 * time.Second
	maxInFlight = 256

	// maxName leaves room for what Kubernetes adds to the name of a StatefulSet in a label of its pods.
	maxName = 52
)

// Place is where the servers of a bus are: the namespace, and the name of everything that they are made of.
type Place struct{ Namespace, Name string }

// PlaceOf returns where the servers of a bus are: beside an EventBus, and in the system's namespace for a ClusterEventBus.
func PlaceOf(kind, namespace, name string) Place {
	if kind == "ClusterEventBus" {
		namespace = system.Namespace()
	}
	full := strings.ToLower(kind) + "-" + name
	if len(full) > maxName {
		sum := sha256.Sum256([]byte(full))
		full = full[:maxName-9] + "-" + hex.EncodeToString(sum[:4])
	}
	return Place{namespace, full}
}

// domain is that of the headless Service. What the cluster's domain is nobody needs to know.
func (p Place) domain() string { return p.Name + "." + p.Namespace + ".svc" }

// member is the name of a pod.
func (p Place) member(i int) string { return p.Name + "-" + strconv.Itoa(i) }

// addresses are host:port of all servers.
func (p Place) addresses(replicas, port int) []string {
	all := make([]string, replicas)
	for i := range all {
		all[i] = net.JoinHostPort(p.member(i)+"."+p.domain(), strconv.Itoa(port))
	}
	return all
}

// Connect returns how to connect to the servers at p of a bus with this spec, which has its defaults. data is what their Secret holds, nil
// while there is none.
func (p Place) Connect(spec *v1alpha1.EmbeddedSpec, data map[string][]byte) (*plan.JetStream, error) {
	if data == nil {
		return nil, errors.New("its servers are not made yet")
	}
	for _, key := range []string{keyUsername, keyPassword, keyCA} {
		if len(data[key]) == 0 {
			return nil, fmt.Errorf("the Secret %s/%s of its servers has no key %s yet", p.Namespace, p.Name, key)
		}
	}
	replicas := replicas(spec)
	j := &plan.JetStream{
		NATSAccess: plan.NATSAccess{
			Username: string(data[keyUsername]), Password: string(data[keyPassword]), TLS: &plan.TLS{CACerts: string(data[keyCA])},
		},
		URL:      "tls://" + strings.Join(p.addresses(replicas, clientPort), ",tls://"),
		Replicas: replicas, AckWait: ackWait, MaxInFlight: maxInFlight,
	}
	if spec.MaxBytes != nil && *spec.MaxBytes < room(spec) { // otherwise the servers' room is the bound, for dead letters and topics too
		j.MaxBytes = *spec.MaxBytes
	}
	if spec.TopicRetention != nil {
		var err error
		if j.TopicRetention, err = v1alpha1.ParseDuration(*spec.TopicRetention); err != nil {
			return nil, fmt.Errorf("spec.embedded.topicRetention: %w", err)
		}
	}
	return j, nil
}

func replicas(spec *v1alpha1.EmbeddedSpec) int {
	if spec.Replicas == nil {
		return 1
	}
	return int(*spec.Replicas)
}

// room is how many bytes of events a server may keep on its volume: a full disk would stop it, but when its room is full it only refuses
// events. It is half of the volume, since a block of the store is compacted only once less than half of it is still wanted.
func room(spec *v1alpha1.EmbeddedSpec) int64 {
	if spec.Storage == nil {
		return 0
	}
	return spec.Storage.Value() / 2
}
