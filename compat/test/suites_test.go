package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// suites are the packages of the original whose tests are run: those with ginkgo, and one without. Of ns there are none.
var suites = []string{
	"libcni", "pkg/invoke", "pkg/skel", "pkg/types", "pkg/types/020", "pkg/types/040", "pkg/types/100", "pkg/version", "plugins/test/noop",
}

const plainSuite = "pkg/utils"

// alien are tests that build programs with releases of the original from its repository.
var alien = []string{"libcni/backwards_compatibility_test.go", "pkg/invoke/get_version_integration_test.go"}

// dispatcher has the tests of package skel, which are inside of it, find what they call.
const dispatcher = `package skel

import (
	"io"

	"github.com/plumb-cni/plumb/protocol"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

type dispatcher struct {
	Getenv         func(string) string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

func (d *dispatcher) pluginMain(funcs CNIFuncs, v version.PluginInfo, about string) *types.Error {
	return serve(funcs, v, about, protocol.Environment{Getenv: d.Getenv, Stdin: d.Stdin, Stdout: d.Stdout, Stderr: d.Stderr})
}
`

// The original's own tests pass on this module, but for those that testdata/differences.txt lists with the reason.
func TestSuites(t *testing.T) {
	t.Parallel()
	from := module(t, original, release)
	dir := t.TempDir()
	compat := filepath.Join(host.Root(t), "compat")
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(compat, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(data))
	}
	for _, name := range []string{"internal", "libcni", "pkg"} {
		copyInto(t, filepath.Join(dir, name), filepath.Join(compat, name))
	}
	// What the tests are made of: plugins and stand-ins, which are built with this module too.
	for _, name := range []string{"plugins", "pkg/invoke/fakes"} {
		copyInto(t, filepath.Join(dir, name), filepath.Join(from, name))
	}
	for _, suite := range append(suites, plainSuite) {
		files, err := filepath.Glob(filepath.Join(from, suite, "*_test.go"))
		if err != nil || files == nil {
			t.Fatalf("no tests in %s: %v", suite, err)
		}
		for _, file := range files {
			name := filepath.Join(suite, filepath.Base(file))
			if slices.Contains(alien, name) {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), string(data))
		}
	}
	write(t, filepath.Join(dir, "pkg/skel/dispatcher_test.go"), dispatcher)
	outside(t, dir, "go", "mod", "edit", "-replace", "github.com/plumb-cni/plumb="+host.Root(t),
		"-require", "github.com/onsi/ginkgo/v2@v2.20.1", "-require", "github.com/onsi/gomega@v1.34.1")

	// The specs leave files behind, and wait for a second where they wait.
	args := []string{"TMPDIR=" + t.TempDir(), "GOMEGA_DEFAULT_EVENTUALLY_TIMEOUT=1m", "go", "test", "-count=1"}
	for _, suite := range suites {
		args = append(args, "./"+suite)
	}
	out, _ := tryOutside(dir, "env", append(args, "-args", "-ginkgo.json-report=report.json")...) //nolint:errcheck // the reports tell

	var ran []spec
	for _, suite := range suites {
		data, err := os.ReadFile(filepath.Join(dir, suite, "report.json"))
		if err != nil {
			t.Fatalf("%s has not run: %v\n%s", suite, err, out)
		}
		ran = append(ran, ginkgoSpecs(t, suite, data)...)
	}
	out, _ = tryOutside(dir, "go", "test", "-json", "-count=1", "./"+plainSuite) //nolint:errcheck // the output tells
	ran = append(ran, plainSpecs(t, plainSuite, out)...)

	expected := differences(t)
	passed, failed := 0, 0
	for _, spec := range ran {
		if spec.passed {
			passed++
			continue
		}
		failed++
		i := slices.IndexFunc(expected, func(d difference) bool { return strings.HasPrefix(spec.name, d.specs) })
		if i < 0 {
			t.Errorf("%s: %s", spec.name, spec.message)
			continue
		}
		expected[i].found = true
	}
	for _, d := range expected {
		if !d.found {
			t.Errorf("differences.txt lists %q, but nothing of that name fails", d.specs)
		}
	}
	t.Logf("%d specs pass, %d differ", passed, failed)
	if passed < 230 {
		t.Errorf("only %d specs were passed", passed)
	}
}

// A difference is the beginning of the name of specs that may fail.
type difference struct {
	specs string
	found bool
}

// differences reads testdata/differences.txt: lines with the beginning of names, below a line "# reason".
func differences(t *testing.T) []difference {
	t.Helper()
	data, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []difference
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, difference{specs: line})
		}
	}
	return all
}

// A spec is one test of the original.
type spec struct {
	name    string
	passed  bool
	message string
}

// ginkgoSpecs decodes a report of ginkgo.
func ginkgoSpecs(t *testing.T, suite string, data []byte) []spec {
	t.Helper()
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts    []string
			LeafNodeType, LeafNodeText string
			State                      string
			Failure                    struct{ Message string }
		}
	}
	if err := json.Unmarshal(data, &reports); err != nil {
		t.Fatal(err)
	}
	var all []spec
	for _, report := range reports {
		for _, s := range report.SpecReports {
			if s.LeafNodeType != "It" && s.State == "passed" {
				continue // preparations
			}
			name := suite + ": " + strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
			all = append(all, spec{name, s.State == "passed", fmt.Sprintf("%s: %.300s", s.State, s.Failure.Message)})
		}
	}
	return all
}

// plainSpecs decodes what go test -json prints.
func plainSpecs(t *testing.T, suite, out string) []spec {
	t.Helper()
	var all []spec
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var event struct{ Action, Test string }
		if err := d.Decode(&event); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if event.Test != "" && (event.Action == "pass" || event.Action == "fail") {
			all = append(all, spec{suite + ": " + event.Test, event.Action == "pass", event.Action})
		}
	}
	if all == nil {
		t.Fatalf("%s has not run:\n%s", suite, out)
	}
	return all
}

func write(t *testing.T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
