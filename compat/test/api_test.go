package test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

const apidiff = "golang.org/x/exp/cmd/apidiff@v0.0.0-20261113113407-e3970619a1a4"

// Whatever a program of the original can name is here, with the same type. Only its programs, and what its own tests are made of, are not.
func TestAPI(t *testing.T) {
	t.Parallel()
	tool := t.TempDir()
	outside(t, tool, "sh", "-ec", `GOFLAGS= GOBIN="$0" go install "$1"`, tool, apidiff)
	tool = filepath.Join(tool, "apidiff")
	export := filepath.Join(t.TempDir(), "api")
	outside(t, module(t, original, release), tool, "-m", "-w", export, original)
	changes := outside(t, filepath.Join(host.Root(t), "compat"), tool, "-m", "-incompatible", export, original)
	absent := map[string]bool{}
	for _, p := range []string{
		"cnitool", "cnitool/cmd", "pkg/invoke/fakes", "pkg/version/legacy_examples", "pkg/version/testhelpers",
		"plugins/test/noop", "plugins/test/noop/debug", "plugins/test/sleep",
	} {
		absent["- package "+original+"/"+p+": removed"] = true
	}
	for line := range strings.Lines(changes) {
		line = strings.TrimSpace(line)
		if !absent[line] {
			t.Error(line)
		}
		delete(absent, line)
	}
	for line := range absent {
		t.Errorf("apidiff doesn't say %q: does it compare?", line)
	}
}
