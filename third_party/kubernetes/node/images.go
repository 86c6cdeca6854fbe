package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// program is what an image stands for.
type program []string

// findProgram looks image up in the table DIR/images.yaml, which is read each time: `image: /path/to/binary [args...]`.
// An image that is in the table wins; else the longest entry that image starts with.
func findProgram(dir, image string) (program, error) {
	path := filepath.Join(dir, "images.yaml")
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	table := map[string]string{}
	if err := yaml.UnmarshalStrict(raw, &table); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	best := ""
	for prefix := range table {
		if strings.HasPrefix(image, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	p := program(strings.Fields(table[best]))
	if len(p) == 0 {
		return nil, fmt.Errorf("image %s is not in %s", image, path)
	}
	return p, nil
}
