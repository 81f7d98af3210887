package plugin

import (
	"errors"
	"fmt"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"golang.org/x/sys/unix"
)

// TestAsError: what the kernel refuses has a code, but where something nearer has given it one, or a panic has.
func TestAsError(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code cni.Code
	}{
		{fmt.Errorf("link eth0: %w", unix.ENODEV), cni.CodeInvalidConfig},
		{errors.Join(fmt.Errorf("add route: %w", unix.EINVAL), errors.New("undo")), cni.CodeInvalidConfig},
		{unix.EPERM, cni.CodeInvalidEnvironment},
		{unix.EMFILE, cni.CodeTryAgain},
		{unix.ENOSPC, cni.CodeIO},
		{fmt.Errorf("open /var/lib/cni/networks/n/10.0.0.2: %w", unix.ENOTDIR), cni.CodeIO},
		{cni.Errorf(cni.CodeUnavailable, "no such devices: %w", unix.EINVAL), cni.CodeUnavailable},
		{cni.Errorf(cni.CodeInternal, "panic: %w", unix.EINVAL), cni.CodeInternal},
		{errors.New("nobody foresaw this"), cni.CodeInternal},
		{unix.ELOOP, cni.CodeInternal},
	} {
		e := asError(tt.err)
		if e.Code != tt.code || e.Msg != tt.err.Error() || !errors.Is(e, tt.code) {
			t.Errorf("%v: code %d, %q", tt.err, e.Code, e.Msg)
		}
	}
}
