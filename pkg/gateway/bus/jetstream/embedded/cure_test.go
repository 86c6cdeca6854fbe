package embedded

import (
	"fmt"
	"syscall"
	"testing"
)

func TestAStartOnAFullDiskSaysWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("write f: %w", syscall.ENOSPC), "write f: no space left on device: make room on its disk; nothing that it has is lost"},
		{fmt.Errorf("write f: %w", syscall.EACCES), "write f: permission denied"},
	} {
		if got := withCure(tt.err).Error(); got != tt.want {
			t.Errorf("withCure(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}
