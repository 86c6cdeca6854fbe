package v1alpha1

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// ownTopics begins the topics of events; nobody else may publish there.
const ownTopics = "openfunction."

var (
	busTopic   = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	kafkaTopic = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
)

// objectName checks the name of an object, or of the objects that generateName will name, and its namespace: a server has checked that
// one before it asks, but files come from nowhere.
func (r report) objectName(o metav1.Object) {
	if namespace := o.GetNamespace(); namespace != "" {
		r.field("metadata").field("namespace").namespace(namespace)
	}
	switch name, prefix := o.GetName(), o.GetGenerateName(); {
	case name == "" && prefix == "":
		r.field("metadata").field("name").errorf("is empty: give the object a name")
	case name == "":
		if validation.NameIsDNSLabel(prefix, true) != nil {
			r.field("metadata").field("generateName").badName(prefix)
		}
	default:
		r.field("metadata").field("name").name(name)
	}
}

// name checks a name that becomes part of topics and of the names of other objects.
func (r report) name(name string) {
	if validation.NameIsDNSLabel(name, false) != nil {
		r.badName(name)
	}
}

func (r report) badName(name string) {
	r.errorf(`%q cannot be a name here, since it becomes part of topics and resource names: use up to 63 lower-case letters, digits and "-", with a letter or digit at both ends`, name)
}

// namespace checks a reference to a namespace.
func (r report) namespace(name string) {
	if validation.NameIsDNSLabel(name, false) != nil {
		r.errorf(`%q cannot be a namespace: use the full name of one`, name)
	}
}

// required checks a reference by name.
func (r report) required(name, what string) {
	if name == "" {
		r.errorf("is empty: name %s", what)
		return
	}
	r.name(name)
}

// topic checks a topic that a user gives a name to; "" is none.
func (r report) topic(topic string) {
	switch {
	case topic == "":
	case strings.HasPrefix(topic, ownTopics):
		r.errorf("%q begins with %s, where only event sources publish: choose another name", topic, ownTopics)
	case len(topic) > 200:
		r.errorf("the topic has %d characters: the most is 200", len(topic))
	case !busTopic.MatchString(topic):
		r.errorf(`%q cannot be a topic on every bus: use letters, digits, "-" and "_", and single dots between them`, topic)
	}
}

// kafkaTopic checks a topic that Kafka has.
func (r report) kafkaTopic(topic string) {
	if topic != "" && (!kafkaTopic.MatchString(topic) || topic == "." || topic == "..") {
		r.errorf(`%q cannot be a Kafka topic: use up to 249 letters, digits, ".", "-" and "_"`, topic)
	}
}

// oneOf checks a value of a fixed set; "" is the default.
func (r report) oneOf(value string, allowed ...string) {
	if value != "" && !slices.Contains(allowed, value) {
		r.errorf("%q is not known: use %s or %s", value, strings.Join(allowed[:len(allowed)-1], ", "), allowed[len(allowed)-1])
	}
}

func (r report) logLevel(level string) {
	switch level {
	case "", "debug", "info", "warn", "error", "1", "2", "3", "4", "5", "6", "7", "8", "9":
	default:
		r.errorf(`%q is not a log level: use debug, info, warn, error, or a verbosity from "1" to "9"`, level)
	}
}

// atLeast checks a number; nil is the default.
func atLeast[T int32 | int64](r report, n *T, least T) {
	if n != nil && *n < least {
		r.errorf("%d is too small: the least is %d", *n, least)
	}
}

// between checks a number; nil is the default.
func between[T int32 | int64](r report, n *T, least, most T) {
	if n != nil && (*n < least || *n > most) {
		r.errorf("%d is out of range: use a number from %d to %d", *n, least, most)
	}
}

// sink checks where events are sent; nil is nowhere. Unlike Knative's, an absolute uri wins over ref, as it always did here.
func (r report) sink(d *Sink) {
	if d == nil {
		return
	}
	switch {
	case r.secret("uri", nil, d.URIFrom):
		d.alone(r.field("uriFrom"))
	case d.Ref == nil && d.URI.IsEmpty():
		r.errorf("leads nowhere: set ref (apiVersion, kind and name of something addressable), uri (an http or https URL) or uriFrom (a Secret that holds one)")
	}
	if d.Ref != nil {
		r.field("ref").reference(d.Ref)
	}
	if !d.URI.IsEmpty() {
		r.field("uri").sinkURL(d.URI.URL(), d.Ref != nil)
		if d.Ref != nil && d.URI.Scheme != "" {
			r.field("ref").warnf("is not used, since uri is absolute: leave one out, or write a path in uri to add it to the address of ref")
		}
	}
	if d.CACerts != nil {
		r.field("CACerts").certificates(*d.CACerts)
		if d.URI != nil && d.URI.Scheme == "http" {
			r.field("CACerts").warnf("is not used, since the uri begins with http: write https to post over TLS")
		}
	}
	if d.Audience != nil {
		r.field("audience").warnf("is not used: events are sent without a token")
	}
}

// alone refuses what uriFrom takes the place of.
func (s *Sink) alone(r report) {
	if s.Ref != nil {
		r.errorf("ref is set too: keep one")
	}
	if !s.URI.IsEmpty() {
		r.errorf("uri is set too: keep one, preferably uriFrom")
	}
}

func (r report) reference(ref *duckv1.KReference) {
	if ref.Name == "" {
		r.field("name").errorf("is empty: name what the events are sent to")
	}
	if ref.Kind == "" {
		r.field("kind").errorf("is empty: say what kind of object it is, for example Service")
	}
	switch gv, err := schema.ParseGroupVersion(ref.APIVersion); {
	case ref.APIVersion == "":
		r.field("apiVersion").errorf("is empty: say which API the kind is of, for example serving.knative.dev/v1, or v1 for a Kubernetes Service")
	case err != nil || gv.Version == "":
		r.field("apiVersion").errorf("%q is not group/version: write for example serving.knative.dev/v1", ref.APIVersion)
	}
	if ref.Group != "" {
		r.field("group").errorf("is not supported: write group and version in apiVersion")
	}
	if ref.Namespace != "" {
		r.field("namespace").namespace(ref.Namespace)
	}
}

func (r report) sinkURL(u *url.URL, hasRef bool) {
	shown := withoutSecrets(u.String())
	switch {
	case u.Scheme == "" && u.Host != "":
		r.errorf("%q has no scheme: write http:%s", shown, shown)
		return
	case u.Scheme == "" && !hasRef:
		r.errorf("%q is relative and there is no ref that it could be relative to: add ref, or write an absolute http or https URL", shown)
		return
	case u.Scheme == "":
		return
	case u.Scheme != "http" && u.Scheme != "https":
		r.errorf("%q has the scheme %q: events are posted to URLs that begin with http:// or https://", shown, u.Scheme)
		return
	case u.Hostname() == "":
		r.errorf("%q has no host: write for example http://sink.default.svc.cluster.local", shown)
		return
	}
	if u.Port() != "" {
		if err := checkPort(shown, u.Port()); err != nil {
			r.errorf("%v", err)
		}
	}
	if _, has := u.User.Password(); has {
		r.warnf("holds a password in plain text, which anyone who may read this object can see: put the URL into a Secret and use uriFrom")
	}
}

// certificates checks a bundle of PEM certificates.
func (r report) certificates(text string) {
	if err := checkCertificates(text); err != nil {
		r.errorf("%v", err)
	}
}

func checkCertificates(text string) error {
	rest := []byte(text)
	for n := 1; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && n == 1:
			return errors.New("holds no PEM certificate: it begins with -----BEGIN CERTIFICATE-----")
		case block == nil && len(strings.TrimSpace(string(rest))) > 0:
			return fmt.Errorf("holds something after certificate %d that is not PEM", n-1)
		case block == nil:
			return nil
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("block %d is a %s: only certificates belong here", n, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d cannot be read: %v", n, err)
		}
	}
}

// secret checks a value that name holds, or nameFrom reads from a Secret, and reports whether there is one.
func (r report) secret(name string, inline *string, from *SecretKeyRef) bool {
	if from == nil {
		return inline != nil && *inline != ""
	}
	at := r.field(name + "From")
	if inline != nil && *inline != "" {
		at.errorf("%s is set too: keep one, preferably %sFrom", name, name)
	}
	if from.Name == "" {
		at.field("name").errorf("is empty: name a Secret")
	}
	if from.Key == "" {
		at.field("key").errorf("is empty: name a key of the Secret")
	}
	return true
}

// plain warns of a secret in plain text.
func (r report) plain(name string, inline *string) {
	if inline != nil && *inline != "" {
		r.field(name).warnf("is plain text, which anyone who may read this object can see: put it into a Secret and use %sFrom", name)
	}
}

func (o *GenericScaleOption) validate(r report) {
	atLeast(r.field("pollingInterval"), o.PollingInterval, 1)
	atLeast(r.field("cooldownPeriod"), o.CooldownPeriod, 0)
	atLeast(r.field("minReplicaCount"), o.MinReplicaCount, 0)
	atLeast(r.field("maxReplicaCount"), o.MaxReplicaCount, 1)
	if o.MinReplicaCount != nil && o.MaxReplicaCount != nil && *o.MinReplicaCount > *o.MaxReplicaCount {
		r.field("minReplicaCount").errorf("%d is more than maxReplicaCount, which is %d", *o.MinReplicaCount, *o.MaxReplicaCount)
	}
	if o.AuthRef != nil {
		if o.AuthRef.Name == "" {
			r.field("authRef").field("name").errorf("is empty: name a KEDA TriggerAuthentication")
		}
		r.field("authRef").field("kind").oneOf(o.AuthRef.Kind, "TriggerAuthentication", "ClusterTriggerAuthentication")
	}
}

// lagThreshold checks a lag, which KEDA takes as text.
func (r report) lagThreshold(text string) {
	if n, err := strconv.Atoi(text); err != nil || n < 1 {
		r.errorf(`%q is not a lag: write how many events one replica may be behind, for example "10"`, text)
	}
}
