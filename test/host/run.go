package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// Try runs a command and returns its standard output. The error names the command and holds its standard error.
func Try(name string, args ...string) (string, error) {
	return try(exec.Command(name, args...))
}

func try(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = strings.TrimSpace(stdout.String()) // ping complains there
		}
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said)
	}
	return stdout.String(), nil
}

// Run runs a command, returns its standard output, and ends the test when it fails.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := Try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryIn is Try in the network namespace ns, a path or the name of a named one; "" is the host itself. Only the network namespace
// changes, mounts are the caller's (ip netns exec would also mount /sys anew).
func TryIn(ns, name string, args ...string) (string, error) {
	if ns == "" {
		return Try(name, args...)
	}
	return Try("nsenter", append([]string{"--net=" + nsPath(ns), name}, args...)...)
}

// RunIn is Run in a network namespace, see TryIn.
func RunIn(t testing.TB, ns, name string, args ...string) string {
	t.Helper()
	out, err := TryIn(ns, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// JSON runs a command and decodes its standard output into v; empty output leaves v alone, since some versions of
// ip print nothing where there is nothing to list.
func JSON(t testing.TB, v any, name string, args ...string) {
	t.Helper()
	decode(t, v, name, Run(t, name, args...))
}

// JSONIn is JSON in a network namespace, see TryIn.
func JSONIn(t testing.TB, ns string, v any, name string, args ...string) {
	t.Helper()
	decode(t, v, name, RunIn(t, ns, name, args...))
}

func decode(t testing.TB, v any, name, out string) {
	t.Helper()
	if strings.TrimSpace(out) == "" {
		return
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("decode the output of %s: %v\n%s", name, err, out)
	}
}
