// Package test shows that this module takes the place of the one whose name it has: with the API of that one, with the tests of that
// one, and with programs that were written for it, built from the Go module proxy.
package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// What this module stands in for.
const (
	original = "github.com/containernetworking/cni"
	release  = "v1.3.1"
)

// outside runs a program where the module proxy can be reached, and returns its standard output.
func outside(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := tryOutside(dir, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// tryOutside returns both outputs if the program fails.
func tryOutside(dir, name string, args ...string) (string, error) {
	cmd := host.Outside(dir, name, args...)
	// The module that is tested is changed by the replace lines; it may have to be completed.
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "CGO_ENABLED=0", "GOWORK=off")
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		out = append(out, exit.Stderr...)
	}
	return string(out), err
}

// module returns a copy of a module, as the proxy has it.
func module(t *testing.T, path, version string) string {
	t.Helper()
	dir := t.TempDir()
	var m struct{ Dir, Error string }
	if err := json.Unmarshal([]byte(outside(t, dir, "go", "mod", "download", "-json", path+"@"+version)), &m); err != nil || m.Dir == "" {
		t.Fatalf("download %s %s: %v %s", path, version, err, m.Error)
	}
	copyInto(t, dir, m.Dir)
	return dir
}

// copyInto copies what is below a folder.
func copyInto(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// switched has the module in dir use this one: the two lines of the README.
func switched(t *testing.T, dir string) {
	t.Helper()
	root := host.Root(t)
	outside(t, dir, "go", "mod", "edit",
		"-replace", original+"="+filepath.Join(root, "compat"),
		"-replace", "github.com/plumb-cni/plumb="+root)
}
