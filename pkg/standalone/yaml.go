package standalone

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a document after its aliases are expanded.
const maxNodes = 1 << 20

// tree is a YAML document as JSON has it, and where each field of it stands.
type tree struct {
	value any
	lines map[string]int
	// mistakes have a line and a message; the object and the file are the caller's.
	mistakes []Problem
}

// parse reads one document. A document that is not YAML gives a tree with a mistake and no value.
func parse(c chunk) tree {
	t := tree{lines: map[string]int{}}
	doc, err := decode(c.data)
	if err != nil {
		p := syntaxProblem(c.data, err)
		p.Line += c.before
		t.mistakes = append(t.mistakes, p)
		return t
	}
	w := walker{tree: &t, before: c.before, open: map[*yaml.Node]bool{}}
	if len(doc.Content) == 1 {
		t.value = w.value(doc.Content[0], "")
	}
	if w.nodes > maxNodes {
		t.value = nil
		t.mistakes = []Problem{{Line: c.before + 1, Message: "aliases expand to more than " + strconv.Itoa(maxNodes) + " values"}}
	}
	return t
}

// walker makes JSON of nodes. It does not use the library's decoder, which stops at the first mistake, and makes times of strings.
type walker struct {
	*tree
	before int
	nodes  int
	open   map[*yaml.Node]bool
}

func (w *walker) mistake(n *yaml.Node, format string, args ...any) {
	w.mistakes = append(w.mistakes, Problem{Line: w.before + n.Line, Message: fmt.Sprintf(format, args...)})
}

func (w *walker) value(n *yaml.Node, path string) any {
	if w.nodes++; w.nodes > maxNodes {
		return nil
	}
	if _, ok := w.lines[path]; !ok {
		w.lines[path] = w.before + n.Line
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		// Not least a condition without quotes, such as !a && b.
		w.mistake(n, "%s begins a YAML tag: put the text in quotes, %q", n.Tag, strings.TrimSpace(n.Tag+" "+n.Value))
		return n.Tag + " " + n.Value
	}
	switch n.Kind {
	case yaml.AliasNode:
		if w.open[n.Alias] {
			w.mistake(n, "alias *%s: contains itself", n.Value)
			return nil
		}
		w.open[n.Alias] = true
		defer delete(w.open, n.Alias)
		return w.value(n.Alias, path)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = w.value(item, join(path, strconv.Itoa(i)))
		}
		return list
	case yaml.MappingNode:
		return w.mapping(n, path)
	}
	return w.scalar(n)
}

func (w *walker) mapping(n *yaml.Node, path string) any {
	fields, first := map[string]any{}, map[string]int{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			w.mistake(key, "key of a mapping: want text%s", template(key))
			continue
		}
		if _, ok := first[key.Value]; ok && path == "" && (key.Value == "apiVersion" || key.Value == "kind") {
			w.mistake(key, "another object begins here: write --- in a line of its own between objects")
			break
		}
		if line, ok := first[key.Value]; ok {
			w.mistake(key, "key %q: is there already in line %d", key.Value, line)
			continue
		}
		first[key.Value] = w.before + key.Line
		w.lines[join(path, key.Value)] = w.before + key.Line
		fields[key.Value] = w.value(value, join(path, key.Value))
	}
	for _, m := range merges {
		w.merge(m, path, fields)
	}
	return fields
}

// template explains a {{ }}, which is a mapping as the key of a mapping.
func template(key *yaml.Node) string {
	if key.Kind == yaml.MappingNode && key.Style&yaml.FlowStyle != 0 {
		return " (a template with {{ }} must be rendered first)"
	}
	return ""
}

// merge adds the fields of what << names, unless they are set already.
func (w *walker) merge(n *yaml.Node, path string, fields map[string]any) {
	sources := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		sources = n.Content
	}
	for _, s := range sources {
		from, ok := w.value(s, path).(map[string]any)
		if !ok {
			w.mistake(s, "<<: want a mapping or a list of them")
			continue
		}
		for key, value := range from {
			if _, ok := fields[key]; !ok {
				fields[key] = value
			}
		}
	}
}

func (w *walker) scalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			w.mistake(n, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
			return nil
		}
		if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			w.mistake(n, "number %s: want a finite one", n.Value)
			return nil
		}
		return v
	case "!!binary":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
		if err != nil {
			w.mistake(n, "!!binary: %v", err)
		}
		return string(data)
	}
	return n.Value
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

var brackets = strings.NewReplacer("[", ".", "]", "")

// line returns where the field of a path stands, such as spec.kafka[a].brokers; for a field that is not there, where its parent does.
func (t *tree) line(root, path string) int {
	path, _, _ = strings.Cut(path, ", ")
	path = join(root, strings.TrimPrefix(brackets.Replace(path), "."))
	for {
		path = strings.TrimSuffix(path, ".")
		if line, ok := t.lines[path]; ok {
			return line
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 || i < len(root) {
			return t.lines[root]
		}
		path = path[:i]
	}
}
