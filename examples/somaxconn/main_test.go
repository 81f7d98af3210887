package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// TestExample runs the program as a runtime would.
func TestExample(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "somaxconn"), ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ns := host.NetNS(t)
	call := func(verb, backlog string) (string, int) {
		config := `{"cniVersion":"1.0.0","name":"net","type":"somaxconn","backlog":` + backlog + `,
			"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"` + ns + `"}]}}`
		stdout, stderr, exit := host.Plugin(t, dir, "somaxconn", host.Env(verb, "one", ns, "eth0", dir), config)
		return stdout + stderr, exit
	}
	for _, x := range []struct {
		before        string // a command in the container
		verb, backlog string
		exit          int
		output        string // a part of it
		value         string // of the sysctl afterwards
	}{
		{"true", "ADD", "0", 1, `backlog 0: it has to be 1 or more`, "4096"},
		{"true", "ADD", "123", 0, `"name": "eth0"`, "123"},
		{"true", "CHECK", "123", 0, "", "123"},
		{"sysctl -qw net.core.somaxconn=7", "CHECK", "123", 1, "core/somaxconn: value is 7, want 123", "7"},
		{"true", "DEL", "123", 0, "", "7"},
	} {
		host.RunIn(t, ns, "sh", "-c", x.before)
		output, exit := call(x.verb, x.backlog)
		if exit != x.exit || !strings.Contains(output, x.output) {
			t.Errorf("%s: exit %d, output %s", x.verb, exit, output)
		}
		if got := strings.TrimSpace(host.RunIn(t, ns, "cat", "/proc/sys/net/core/somaxconn")); got != x.value {
			t.Errorf("after %s: somaxconn is %s, want %s", x.verb, got, x.value)
		}
	}
}

// TestREADME holds the copy in the README to the program.
func TestREADME(t *testing.T) {
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(program), "\n"); lines >= 60 {
		t.Errorf("the example has %d lines", lines)
	}
	if !strings.Contains(string(readme), "```go\n"+string(program)+"```") {
		t.Error("README.md does not show examples/somaxconn/main.go as it is")
	}
}
