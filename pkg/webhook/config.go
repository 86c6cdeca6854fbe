package webhook

import (
	"fmt"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/logging"
)

// newLogging also reads the logger's own configuration, which Knative replaces with a default when it cannot.
func newLogging(c *corev1.ConfigMap) (*logging.Config, error) {
	config, err := logging.NewConfigFromConfigMap(c)
	if err != nil || config.LoggingConfig == "" {
		return config, err
	}
	return config, checkLogger(config.LoggingConfig)
}

func checkLogger(text string) error {
	var config zap.Config
	if err := decodeStrict([]byte(text), &config); err != nil {
		return fmt.Errorf("zap-logger-config: %w", err)
	}
	config.OutputPaths, config.ErrorOutputPaths = nil, nil // Checking must not open files.
	if _, err := config.Build(); err != nil {
		return fmt.Errorf("zap-logger-config: %w", err)
	}
	return nil
}
