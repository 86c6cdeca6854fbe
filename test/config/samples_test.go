package config

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The samples are what users have from elsewhere, byte for byte: our code adapts to them, and never they to it.
func TestSamplesAreVerbatim(t *testing.T) {
	want := map[string]string{
		"sample-1-sink.yaml":            "aeb2ebaf9e69292afc83f8433adef21a2cb1a00b2f00bde0ecf1477ec2072373",
		"sample-2-bus-and-trigger.yaml": "34c86fb8207cbd4cc3c1fe1bf8cc2b8c1da09391548a3c0a4dcba5895b22b4eb",
		"sample-3-multi.yaml":           "e8c8a5bd7ebf96a03c8b07eef11498c6bf244a180a734808071b300e33cdcf20",
		"sample-4-clustereventbus.yaml": "4e023556965b4717ecc77662d6d40e30b8dbb476c82b87495be87e02e94bd4c7",
		"sample-5-conditions.yaml":      "908ea1977d78bf455b03376366d9817bb6644ac6e351a65bbc7e662afd978c6b",
	}
	files, err := filepath.Glob(root + "config/samples/sample-*.yaml")
	if err != nil || len(files) != len(want) {
		t.Errorf("there are samples %v (%v), want %d", files, err, len(want))
	}
	for name, hash := range want {
		text, err := os.ReadFile(root + "config/samples/" + name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != hash {
			t.Errorf("%s has changed: its hash is %s, want %s", name, got, hash)
		}
	}
}
