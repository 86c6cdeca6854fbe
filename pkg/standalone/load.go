package standalone

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/openfunction/events/pkg/apis/events"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

const (
	ourVersion       = events.GroupName + "/v1alpha1"
	defaultNamespace = "default"
	defaultBus       = "default"
)

// Object is one declared object of ours, and where.
type Object struct {
	// Name is "Kind namespace/name".
	Name string
	File string
	Line int
	// Invalid is true when a Problem that is not a warning is about it.
	Invalid bool

	value resource
	tree  *tree
	root  string

	// misspelt are the paths about which an unknown or an empty field may be all that is wrong: itself, where it stands, and what it nearly is.
	misspelt map[string]bool
}

// resource is what all our kinds are.
type resource interface {
	metav1.Object
	apis.Defaultable
	apis.Validatable
}

// Config is what files declare.
type Config struct {
	// Objects are those of our kinds, in the order of the files, also invalid ones.
	Objects []*Object
	// ConfigMaps are kept by namespace/name.
	ConfigMaps map[string]*corev1.ConfigMap
	// Problems are all mistakes and warnings of the files themselves, in their order. See Compile for those between objects.
	Problems []Problem
	// Ignored counts the objects of other kinds, by kind.
	Ignored map[string]int

	secrets map[string]secret
	byName  map[string]*Object
	digest  [32]byte
	order   map[string]int
	count   int
	// addedBus tells whether addDefaultBus added one.
	addedBus bool
}

// secret is a Secret, and where.
type secret struct {
	*corev1.Secret
	file string
}

// Load reads files, directories without those below them, and for the path - the standard input, and defaults and validates what they
// declare. It never fails: whatever is wrong is in the Config's Problems.
func Load(ctx context.Context, paths []string) *Config {
	return new(reader).load(ctx, paths)
}

func (r *reader) load(ctx context.Context, paths []string) *Config {
	c := &Config{
		ConfigMaps: map[string]*corev1.ConfigMap{}, Ignored: map[string]int{},
		secrets: map[string]secret{}, byName: map[string]*Object{}, order: map[string]int{},
	}
	files := r.readAll(ctx, paths)
	c.digest = digest(files)
	for i, f := range files {
		c.order[f.name] = i
		c.file(ctx, f)
	}
	c.sort(c.Problems)
	return c
}

func (c *Config) sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(c.order[a.File], c.order[b.File]), cmp.Compare(a.Line, b.Line))
	})
}

func (c *Config) file(ctx context.Context, f file) {
	if f.err != nil {
		c.Problems = append(c.Problems, Problem{File: f.name, Message: f.err.Error()})
		return
	}
	data, err := text(f.data)
	if err != nil {
		c.Problems = append(c.Problems, Problem{File: f.name, Message: err.Error()})
		return
	}
	for _, part := range chunks(data) {
		t := parse(part)
		if strings.EqualFold(filepath.Ext(f.name), ".json") {
			for i := range t.mistakes {
				t.mistakes[i].Message = strings.Replace(t.mistakes[i].Message, "not valid YAML", "not valid JSON", 1)
			}
		}
		c.document(ctx, &Object{File: f.name, tree: &t})
	}
}

// document takes in one document, or one item of a list, which o.root leads to.
func (c *Config) document(ctx context.Context, o *Object) {
	if c.count++; c.count > maxDocuments {
		if c.count == maxDocuments+1 {
			c.problem(o, "", fmt.Sprintf("more than %d objects", maxDocuments))
		}
		return
	}
	o.Line = o.tree.line(o.root, "")
	value := o.tree.value
	if o.root != "" {
		value = o.item()
	}
	fields, ok := value.(map[string]any)
	kind, _ := fields["kind"].(string)
	if ok && newResource(kind) != nil {
		o.Name = title(kind, fields)
	}
	for _, m := range o.tree.mistakes {
		m.File, m.Object = o.File, o.Name
		c.Problems = append(c.Problems, m)
		o.Invalid = true
	}
	o.tree.mistakes = nil // a list's items need not repeat them
	if value == nil {
		return
	}
	if !ok {
		c.problem(o, "", "want an object with apiVersion, kind and metadata")
		return
	}
	version, _ := fields["apiVersion"].(string)
	switch {
	case version == "" || kind == "":
		c.problem(o, "", notAnObject(fields))
	case strings.HasSuffix(kind, "List") && (version == "v1" || version == ourVersion):
		c.list(ctx, o, fields)
	case version == ourVersion:
		c.ours(ctx, o, kind, fields)
	case strings.HasPrefix(version, events.GroupName+"/"), newResource(kind) != nil && strings.Contains(version, "openfunction"):
		c.problem(o, "apiVersion", fmt.Sprintf("unknown version %q: want %s", version, ourVersion))
	case version == "v1" && kind == "Secret":
		s := &corev1.Secret{}
		if c.decode(o, kind, fields, s) {
			c.secrets[s.Namespace+"/"+s.Name] = secret{s, o.File}
		}
	case version == "v1" && kind == "ConfigMap":
		m := &corev1.ConfigMap{}
		if c.decode(o, kind, fields, m) {
			c.ConfigMaps[m.Namespace+"/"+m.Name] = m
		}
	case newResource(kind) != nil: // such as Knative's Trigger
		c.Ignored[kind+" of "+version]++
	default:
		c.Ignored[kind]++
	}
}

// item returns the part of the document that root leads to: items.N of a list, also of a list in a list.
func (o *Object) item() any {
	value := o.tree.value
	for part := range strings.SplitSeq(o.root, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			var i int
			if _, err := fmt.Sscan(part, &i); err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		}
	}
	return value
}

func (c *Config) list(ctx context.Context, o *Object, fields map[string]any) {
	items, ok := fields["items"].([]any)
	if !ok {
		c.problem(o, "items", "want a list of objects")
		return
	}
	for i := range items {
		c.document(ctx, &Object{File: o.File, tree: o.tree, root: join(o.root, fmt.Sprintf("items.%d", i)), Invalid: o.Invalid})
	}
}

func (c *Config) ours(ctx context.Context, o *Object, kind string, fields map[string]any) {
	r := newResource(kind)
	if r == nil {
		message := fmt.Sprintf("unknown kind %q: want EventSource, EventBus, ClusterEventBus or Trigger", kind)
		if near := plan.Nearest(kind, []string{"EventSource", "EventBus", "ClusterEventBus", "Trigger"}); near != "" {
			message = fmt.Sprintf("unknown kind %q; did you mean %q?", kind, near)
		}
		c.problem(o, "kind", message)
		return
	}
	if !c.decode(o, kind, fields, r) {
		return
	}
	c.Objects = append(c.Objects, o)
	o.value = r
	if first, ok := c.byName[o.Name]; ok {
		c.problem(o, "metadata.name", fmt.Sprintf("is declared already at %s:%d: rename or remove one", first.File, first.Line))
		return
	}
	c.byName[o.Name] = o
	r.SetDefaults(ctx)
	for _, p := range v1alpha1.Flatten(r.Validate(ctx)) {
		if o.misspelt[p.Path] {
			continue
		}
		c.report(o, Problem{Path: p.Path, Message: p.Message, Warning: p.Warning})
	}
}

// decode makes r of fields and gives it its namespace; it tells whether r has what it takes to be looked at further.
func (c *Config) decode(o *Object, kind string, fields map[string]any, r metav1.Object) bool {
	delete(fields, "status")
	o.Name = title(kind, fields)
	faults := conform(fields, reflect.TypeOf(r), "")
	o.misspelt = map[string]bool{}
	for _, f := range faults {
		switch {
		case kind != "Secret":
		// What a Secret holds must not be shown.
		case strings.HasPrefix(f.path, "stringData["):
			f.message = "want text (in quotes)"
		case strings.HasPrefix(f.path, "data["):
			f.message = "want base64; plain text goes into stringData"
		}
		c.problem(o, f.path, f.message)
		parent := f.path[:max(0, strings.LastIndexByte(f.path, '.'))]
		o.misspelt[parent], o.misspelt[f.path] = true, true
		if _, near, ok := strings.Cut(f.message, `did you mean "`); ok {
			o.misspelt[join(parent, strings.TrimSuffix(near, `"?`))] = true
		}
	}
	text, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	switch {
	case err != nil && len(faults) == 0:
		c.problem(o, "", err.Error())
		return false
	case err != nil: // a fault says it better; with fields that are only unknown, what is known has mistakes of its own to tell
		return false
	}
	if r.GetName() == "" {
		c.problem(o, "metadata.name", "is missing")
		return false
	}
	switch {
	case kind == "ClusterEventBus":
		r.SetNamespace("")
	case r.GetNamespace() == "":
		r.SetNamespace(defaultNamespace)
	}
	return true
}

func (c *Config) problem(o *Object, path, message string) {
	c.report(o, Problem{Path: path, Message: message})
}

func (c *Config) report(o *Object, p Problem) {
	p.File, p.Object, p.Line = o.File, o.Name, o.tree.line(o.root, p.Path)
	c.Problems = append(c.Problems, p)
	o.Invalid = o.Invalid || !p.Warning
}

// secret returns the value of a key of a Secret that the files hold.
func (c *Config) secret(namespace, name, key string) (string, error) {
	s, ok := c.secrets[namespace+"/"+name]
	if !ok {
		return "", errors.New(c.absent(namespace, name))
	}
	if v, ok := s.StringData[key]; ok {
		return v, nil
	}
	if v, ok := s.Data[key]; ok {
		return string(v), nil
	}
	keys := append(sortedKeys(s.StringData), sortedKeys(s.Data)...)
	slices.Sort(keys)
	there := "none"
	if keys = slices.Compact(keys); len(keys) > 0 {
		there = strings.Join(keys, ", ")
	}
	return "", fmt.Errorf("the Secret has no such key (it has %s): add it in %s, or correct the key", there, s.file)
}

// noSecret begins what is said of a Secret that may be kept elsewhere.
const noSecret = "the files have no Secret of this name"

// absent says that the files do not have this Secret, and which one may be meant.
func (c *Config) absent(namespace, name string) string {
	var here []string
	for _, id := range sortedKeys(c.secrets) {
		switch s := c.secrets[id]; {
		case s.Namespace == namespace:
			here = append(here, s.Name)
		case s.Name == name:
			return fmt.Sprintf(noSecret+" in that namespace, but %s: add one, or set namespace: %s there", id, namespace)
		}
	}
	if near := plan.Nearest(name, here); near != "" {
		return fmt.Sprintf(noSecret+"; did you mean %q?", near)
	}
	return noSecret + ": add it to a file, or correct the name"
}

// objects are the valid ones, as plan.Compile wants them.
func (c *Config) objects() plan.Objects {
	var all plan.Objects
	for _, o := range c.Objects {
		if o.Invalid {
			continue
		}
		switch v := o.value.(type) {
		case *v1alpha1.EventSource:
			all.EventSources = append(all.EventSources, v)
		case *v1alpha1.EventBus:
			all.EventBuses = append(all.EventBuses, v)
		case *v1alpha1.ClusterEventBus:
			all.ClusterEventBuses = append(all.ClusterEventBuses, v)
		case *v1alpha1.Trigger:
			all.Triggers = append(all.Triggers, v)
		}
	}
	return all
}

// consumers are those of the declared EventSources.
func (c *Config) consumers() (all []v1alpha1.Consumer) {
	for _, o := range c.Objects {
		if es, ok := o.value.(*v1alpha1.EventSource); ok {
			all = append(all, es.Consumers()...)
		}
	}
	return all
}
