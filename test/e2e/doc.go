// Package e2e runs the built program against real servers, as a person would; its tests need the build tag e2e.
package e2e
