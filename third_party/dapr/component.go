package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dapr/components-contrib/metadata"
	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/kit/logger"
	"gopkg.in/yaml.v3"
)

// document is a Component, or a Secret that one names.
type document struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Type     string
		Metadata []struct {
			Name, Value  string
			SecretKeyRef *struct{ Name, Key string } `yaml:"secretKeyRef"`
		}
	}
	StringData map[string]string `yaml:"stringData"`
}

// component is a Component with the values of its Secrets.
type component struct {
	name, kind string
	properties map[string]string
}

// read returns the Components of a file.
func read(path string) ([]component, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var documents []document
	secrets := map[string]map[string]string{}
	for d := yaml.NewDecoder(f); ; {
		var it document
		err := d.Decode(&it)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		switch it.Kind {
		case "Component":
			documents = append(documents, it)
		case "Secret":
			secrets[it.Metadata.Name] = it.StringData
		}
	}
	var components []component
	for _, it := range documents {
		c := component{it.Metadata.Name, it.Spec.Type, map[string]string{}}
		for _, item := range it.Spec.Metadata {
			c.properties[item.Name] = item.Value
			if ref := item.SecretKeyRef; ref != nil {
				c.properties[item.Name] = secrets[ref.Name][ref.Key]
			}
		}
		components = append(components, c)
	}
	return components, nil
}

// start returns the component once it is connected. The sidecar passes on its application's name as it is done here.
func (c component) start(ctx context.Context) (pubsub.PubSub, error) {
	create, ok := types[c.kind]
	if !ok {
		return nil, fmt.Errorf("there is no component of the type %q", c.kind)
	}
	log := logger.NewLogger(c.name)
	log.SetOutput(os.Stderr)
	c.properties[pubsub.RuntimeConsumerIDKey] = cmp.Or(c.properties[pubsub.RuntimeConsumerIDKey], "application")
	it := create(log)
	return it, it.Init(ctx, pubsub.Metadata{Base: metadata.Base{Name: c.name, Properties: c.properties}})
}
