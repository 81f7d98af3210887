package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// runtime writes a runtime that prints its arguments, one a line, and then does as a script says.
func runtime(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestBecome has another runtime called in its place, with what it was called with.
func TestBecome(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "runc")
	self := filepath.Join(host.Bin(t), "plumb-runc")
	args := []string{"--root", "/r", "create", "--bundle", "/nosuch", "an id", "", "*"}
	call := func(path string, args ...string) (*exec.Cmd, string, error) {
		cmd := exec.Command(path, args...)
		cmd.Env = []string{"PATH=/nosuch:" + dir + ":/usr/bin:/bin"}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		return cmd, string(out) + stderr.String(), err
	}
	want := strings.Join(args, "\n") + "\n"
	exit := (*exec.ExitError)(nil)

	runtime(t, real, "echo failed >&2; exit 7")
	if _, out, err := call(self, args...); !errors.As(err, &exit) || exit.ExitCode() != 7 || out != want+"failed\n" {
		t.Errorf("runc of the PATH: %v\n%s", err, out)
	}
	if _, out, err := call(self, append([]string{"--plumb-netdir=/n", "--plumb-path=/p"}, args...)...); !errors.As(err, &exit) || exit.ExitCode() != 7 || out != want+"failed\n" {
		t.Errorf("with options: %v\n%s", err, out)
	}
	other := filepath.Join(t.TempDir(), "other")
	runtime(t, other, "kill -TERM $$")
	cmd, out, err := call(self, append([]string{"--plumb-runtime=" + other}, args...)...)
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || ws.Signal() != syscall.SIGTERM || out != want {
		t.Errorf("a runtime that was named: %v\n%s", err, out)
	}

	// In the place of runc, before it on the PATH.
	first := t.TempDir()
	host.Run(t, "cp", self, filepath.Join(first, "runc"))
	cmd = exec.Command(filepath.Join(first, "runc"), args...)
	cmd.Env = []string{"PATH=" + first + ":" + dir}
	runtime(t, real, "exit 0")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
		t.Errorf("under the name of runc: %v\n%s", err, out)
	}

	// Two copies in the place of runc, on the PATH or by name.
	second := t.TempDir()
	host.Run(t, "cp", self, filepath.Join(second, "runc"))
	for _, path := range []string{first + ":" + second, second + ":" + first} {
		for _, given := range []string{"", "--plumb-runtime=" + filepath.Join(second, "runc")} {
			cmd = exec.Command(self, append(strings.Fields(given), args...)...)
			cmd.Env = []string{"PATH=" + path + ":" + dir}
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
				t.Errorf("two copies, %s: %v\n%s", given, err, out)
			}
			cmd = exec.Command(self, "--version")
			cmd.Env = []string{"PATH=" + path}
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no runc on the PATH") {
				t.Errorf("two copies alone: %v\n%s", err, out)
			}
		}
	}

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown option":      {[]string{"--plumb-nosuch=1"}, "unknown option --plumb-nosuch"},
		"option, no value":    {[]string{"--plumb-netdir", "/n"}, "--plumb-netdir has no value"},
		"no such runtime":     {[]string{"--plumb-runtime=/nosuch"}, "/nosuch"},
		"hook without folder": {[]string{"plumb-start"}, "is a hook, with 2 arguments"},
		"hook without state":  {[]string{"plumb-stop", "/nosuch"}, "state of the container"},
	} {
		if _, out, err := call(self, c.args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if err := os.Remove(real); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self, "--version")
	cmd.Env = []string{"PATH=" + dir}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no runc on the PATH") {
		t.Errorf("without a runc: %v\n%s", err, out)
	}
}

// TestStop forgets what a container was connected to when that is removed, but
// not when its files can't be read at the moment.
func TestStop(t *testing.T) {
	records, dir := t.TempDir(), filepath.Join(t.TempDir(), "containers", "abc")
	record := filepath.Join(records, "abc", "eth0.json")
	host.Run(t, "mkdir", "-p", filepath.Dir(record), dir)
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stop := func() {
		t.Helper()
		cmd := exec.Command(filepath.Join(host.Bin(t), "plumb-runc"), "plumb-stop", "--plumb-records="+records, dir)
		cmd.Stdin = strings.NewReader(`{"id":"abc","pid":0}`)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	write(record, `{"root":"/r","containerID":"abc","name":"web","network":"net","ifName":"eth0","live":true}`)
	write(filepath.Join(dir, "config.v2.json"), "{")
	stop()
	if _, err := os.Stat(record); err != nil {
		t.Errorf("with a file that is torn: %v", err)
	}
	host.Run(t, "rm", "-r", dir)
	stop()
	if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without files the record is there still: %v", err)
	}
}
