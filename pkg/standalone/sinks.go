package standalone

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/plan"
)

// Sinks say where references to Kubernetes objects lead: to a URL, or else to the event display. The zero value knows no URL.
type Sinks struct {
	urls map[string]*url.URL
	used map[string]bool
	// displayed are the references without a URL.
	displayed map[string]bool
}

// ParseSinks reads NAMESPACE/NAME=URL, or NAME=URL for the namespace default.
func ParseSinks(mappings []string) (*Sinks, error) {
	s := &Sinks{urls: map[string]*url.URL{}, used: map[string]bool{}}
	for _, m := range mappings {
		name, raw, ok := strings.Cut(m, "=")
		if !strings.Contains(name, "/") {
			name = defaultNamespace + "/" + name
		}
		namespace, base, _ := strings.Cut(name, "/")
		if !ok || namespace == "" || base == "" || strings.Contains(base, "/") {
			return nil, fmt.Errorf("sink %q: want NAMESPACE/NAME=URL, for example default/display=http://127.0.0.1:9000", m)
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("sink %s: %q: want an http or https URL", name, plan.HideURL(raw))
		}
		if _, ok := s.urls[name]; ok {
			return nil, fmt.Errorf("sink %s: is given twice", name)
		}
		s.urls[name] = u
	}
	return s, nil
}

// Resolve returns where d, a destination of an object in namespace, leads.
func (s *Sinks) Resolve(d *duckv1.Destination, namespace string) (*plan.Target, error) {
	var caCerts string
	if d.CACerts != nil {
		caCerts = *d.CACerts
	}
	if u := d.URI.URL(); d.URI != nil && u.IsAbs() && u.Host != "" {
		return &plan.Target{Name: "sink " + plan.HideURL(u.String()), URL: u.String(), CACerts: caCerts}, nil
	}
	if d.Ref == nil {
		return nil, errors.New("neither ref nor an absolute uri: nobody knows where it leads")
	}
	key := cmp.Or(d.Ref.Namespace, namespace) + "/" + d.Ref.Name
	t := &plan.Target{Name: "sink " + key, CACerts: caCerts}
	base, ok := s.urls[key]
	if !ok {
		if s.displayed == nil {
			s.displayed = map[string]bool{}
		}
		s.displayed[key] = true
		return t, nil
	}
	s.used[key] = true
	t.URL = within(base, d.URI).String()
	return t, nil
}

// within resolves a relative URI as Knative does: by the rules of RFC 3986.
func within(base *url.URL, uri *apis.URL) *url.URL {
	if uri == nil {
		return base
	}
	return base.ResolveReference(uri.URL())
}

// Unused returns the names that nothing referred to, sorted.
func (s *Sinks) Unused() []string {
	var unused []string
	for name := range s.urls {
		if !s.used[name] {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return unused
}

// others tells which references lead nowhere yet, at most five.
func (s *Sinks) others() string {
	names := sortedKeys(s.displayed)
	switch n := len(names); {
	case n == 0:
		return ""
	case n > 5:
		return fmt.Sprintf("; others are %s and %d more", strings.Join(names[:5], ", "), n-5)
	}
	return "; others are " + strings.Join(names, ", ")
}
