// Command crd finishes the CustomResourceDefinitions that controller-gen wrote, and names their files as config/ does.
//
// It makes nullable what users can leave empty in YAML by mistake: the values of maps, the items of lists, and what is required. A null
// then reaches admission, whose answer says what to write, where the API server would drop it in silence or speak of types. It
// bounds URIs and small numbers, since what the types cannot read must not get in even while admission is away. And it refuses to write a
// field that nobody has described.
package main

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const header = "# Written by hack/generate.sh from the Go types of pkg/apis/events/v1alpha1; edit those.\n"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: crd FROM-DIRECTORY TO-DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "crd:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	names, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("read %s: no file there", from)
	}
	for _, name := range names {
		if err := finish(name, to); err != nil {
			return fmt.Errorf("finish %s: %w", filepath.Base(name), err)
		}
	}
	return nil
}

// object is a JSON object.
type object = map[string]any

func finish(name, to string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var crd object
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return err
	}
	metadata := crd["metadata"].(object)
	delete(metadata, "annotations")
	metadata["labels"] = object{"app.kubernetes.io/name": "openfunction-events"}
	spec := crd["spec"].(object)
	singular := spec["names"].(object)["singular"].(string)
	if singular == "eventsource" {
		metadata["labels"].(object)["duck.knative.dev/addressable"] = "true"
	}
	var undescribed []string
	for _, version := range spec["versions"].([]any) {
		schema := version.(object)["schema"].(object)["openAPIV3Schema"].(object)
		describe(schema, "", &undescribed)
		allowNull(schema["properties"].(object)["spec"].(object))
		makeReadable(schema["properties"].(object)["spec"].(object))
	}
	if len(undescribed) > 0 {
		return fmt.Errorf("without a doc comment: %s", strings.Join(undescribed, ", "))
	}
	data, err = yaml.Marshal(crd)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "300-"+singular+".yaml"), slices.Concat([]byte(header), bytes.TrimSpace(data), []byte("\n")), 0o644)
}

// theirs are the descriptions of fields whose types are not ours and say nothing.
var theirs = map[string]string{
	".status.address.url": "URL is where events are posted.",
}

// describe collects the fields that have no description.
func describe(schema object, path string, undescribed *[]string) {
	properties, _ := schema["properties"].(object)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		field := properties[name].(object)
		at := path + "." + name
		if text, ok := theirs[at]; ok {
			field["description"] = text
		}
		if field["description"] == nil && at != ".metadata" { // The API server describes that one itself, and refuses our words.
			*undescribed = append(*undescribed, at)
		}
		describe(field, at, undescribed)
	}
	for _, inner := range []string{"items", "additionalProperties"} {
		if below, ok := schema[inner].(object); ok {
			describe(below, path+"[]", undescribed)
		}
	}
}

func allowNull(schema object) {
	properties, _ := schema["properties"].(object)
	for _, field := range properties {
		allowNull(field.(object))
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if field := properties[name.(string)].(object); field["type"] == "object" || field["type"] == "array" {
			field["nullable"] = true
		}
	}
	for _, inner := range []string{"items", "additionalProperties"} {
		if below, ok := schema[inner].(object); ok {
			if below["type"] == "object" {
				below["nullable"] = true
			}
			allowNull(below)
		}
	}
}

// uri matches what net/url can parse: URIs of a host or opaque ones, and relative ones.
var uri = func() string {
	ip := `(h:){7}h|(h:){1,7}:|:((:h){1,7}|:)`
	for n := 1; n <= 6; n++ {
		ip += fmt.Sprintf(`|(h:){1,%d}(:h){1,%d}`, 7-n, n)
	}
	ip = strings.ReplaceAll(ip, "h", `[0-9A-Fa-f]{1,4}`)
	const (
		escape   = `%[0-9A-Fa-f]{2}`
		char     = `([^%?#\x00-\x1f\x7f]|` + escape + `)`
		userinfo = `([A-Za-z0-9._:~!$&'()*+,;=@-]|` + escape + `)*@`
		name     = `[A-Za-z0-9._~!$&'()*+,;=\x{80}-\x{10FFFF}-]*`
		scheme   = `[A-Za-z][A-Za-z0-9+.-]*:`
		path     = `/(([^/%?#\x00-\x1f\x7f]|` + escape + `)` + char + `*)?`
		opaque   = `([^/%?#\x00-\x1f\x7f]|` + escape + `)` + char + `*`
		relative = `([^/:%?#\x00-\x1f\x7f]|` + escape + `)+(/` + char + `*)?`
		rest     = `(\?[^#\x00-\x1f\x7f]*)?(#([^%\x00-\x1f\x7f]|` + escape + `)*)?`
	)
	host := `(` + name + `|\[(` + ip + `)(%25[A-Za-z0-9]+)?\])(:[0-9]*)?`
	authority := `//(` + userinfo + `)?` + host + `(/` + char + `*)?`
	return `^((` + scheme + `)?(` + authority + `|` + path + `)?|` + scheme + opaque + `|` + relative + `)` + rest + `$`
}()

// makeReadable bounds the values that the API server would take for the type, and Go would not.
func makeReadable(schema object) {
	properties, _ := schema["properties"].(object)
	for name, field := range properties {
		field := field.(object)
		switch {
		case name == "uri" && field["type"] == "string":
			field["pattern"] = uri
		case field["format"] == "int32": // which the API server does not look at
			field["minimum"], field["maximum"] = math.MinInt32, math.MaxInt32
		}
		makeReadable(field)
	}
	for _, inner := range []string{"items", "additionalProperties"} {
		if below, ok := schema[inner].(object); ok {
			makeReadable(below)
		}
	}
}
