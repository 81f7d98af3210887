package cnitool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/cnitool"
	"github.com/plumb-cni/plumb/runtime"
)

// A plugin that tells on standard error how it was called.
const script = `#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS" >&2
[ "$CNI_IFNAME" = bad0 ] && { echo '{"code":11,"msg":"later"}'; exit 1; }
case $CNI_COMMAND in
'') echo "CNI p plugin v1.2.3" >&2 ;;
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}' ;;
ADD) echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0"}]}' ;;
esac
`

// TestMain runs the tests in a mount namespace whose /var/lib is empty: the
// place of the cache is not for the caller to choose.
func TestMain(m *testing.M) {
	const inside = "CNITOOL_TEST_INSIDE"
	if os.Getenv(inside) != "" {
		if err := errors.Join(
			syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
			syscall.Mount("tmpfs", "/var/lib", "tmpfs", 0, ""),
		); err != nil {
			fmt.Fprintln(os.Stderr, "mount an empty /var/lib:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A bench is a folder of configurations and one of plugins.
type bench struct {
	env map[string]string
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"bin/p":                script,
		"conf/10-net.conflist": `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"p","capabilities":{"mac":true}}]}`,
		"conf/20-single.conf":  `{"cniVersion":"0.3.1","name":"single","type":"gone"}`,
		"conf/30-bad.conflist": `{"cniVersion":`,
		"conf/40-gone.conf":    `{"cniVersion":"1.0.0","name":"gone","type":"gone"}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &bench{dir: dir, env: map[string]string{"CNI_PATH": filepath.Join(dir, "bin"), "NETCONFPATH": filepath.Join(dir, "conf")}}
}

// run runs the command; calls are what the plugins told of theirs.
func (b *bench) run(args ...string) (exit int, stdout, stderr string, calls []string) {
	var out, errs, told bytes.Buffer
	exit = cnitool.Run(context.Background(), args, func(k string) string { return b.env[k] },
		&out, &errs, &runtime.Exec{Stderr: &told}, "v1.9.1+plumb.0.0.0")
	if told.Len() > 0 {
		calls = strings.Split(strings.TrimSpace(told.String()), "\n")
	}
	return exit, out.String(), errs.String(), calls
}

// The reference derives the ID from the path as it is written.
func TestContainerID(t *testing.T) {
	for _, path := range []string{"/var/run/netns/testing", "/run/netns/testing"} {
		cmd := exec.Command("sha512sum")
		cmd.Stdin = strings.NewReader(path)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := cnitool.ContainerID(path), "cnitool-"+string(out[:20]); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestVerbs(t *testing.T) {
	b := newBench(t)
	netns := filepath.Join(b.dir, "netns")
	id := cnitool.ContainerID(netns)
	add := "ADD " + id + " " + netns

	for _, c := range []struct {
		env    string // KEY=value of this step
		args   string
		call   string // what the plugin was called with, "" if it wasn't
		stdout string
	}{
		{"", "add net " + netns, add + " eth0 ", `"name": "eth0"`},
		{"", "check net " + netns, "CHECK " + id + " " + netns + " eth0 ", ""},
		{"", "status net " + netns, "STATUS    ", ""},
		{"", "status net", "STATUS    ", ""},
		{"", "del net " + netns, "DEL " + id + " " + netns + " eth0 ", ""},
		{"CNI_IFNAME=net1", "add net " + netns, add + " net1 ", "{"},
		{"CNI_IFNAME=net1", "add -i net2 net " + netns, add + " net2 ", "{"},
		{"", "add net " + netns + " --ifname=net3", add + " net3 ", "{"},
		{"CNI_ARGS=A=b;C=d", "add net " + netns, add + " eth0 A=b;C=d", "{"},
		{"CAP_ARGS={\"mac\":\"02:00:00:00:00:01\"}", "add net " + netns, add + " eth0 ", "{"},
		{"CNI_CONTAINERID=mine", "add net " + netns, "ADD mine " + netns + " eth0 ", "{"},
		{"", "version", "", "cnitool v1.9.1+plumb.0.0.0\n"},
	} {
		key, value, _ := strings.Cut(c.env, "=")
		b.env[key] = value
		exit, stdout, stderr, calls := b.run(strings.Fields(c.args)...)
		delete(b.env, key)
		var want []string
		if c.call != "" {
			want = []string{strings.TrimSpace(c.call)}
		}
		if exit != 0 || fmt.Sprint(calls) != fmt.Sprint(want) || !strings.Contains(stdout, c.stdout) {
			t.Errorf("%s %s: exit %d, calls %q, want %q\n%s%s", c.env, c.args, exit, calls, want, stdout, stderr)
		}
	}
	// A version without STATUS has nobody to ask, and that is told.
	exit, stdout, stderr, calls := b.run("status", "single")
	if exit != 0 || stdout != "" || len(calls) != 0 || !strings.Contains(stderr, `network "single" is of version 0.3.1, which has no STATUS`) {
		t.Errorf("status: exit %d, calls %q: %s%s", exit, calls, stdout, stderr)
	}
	// Everything that was added and not deleted.
	exit, _, stderr, calls = b.run("gc", "net")
	if exit != 0 || len(calls) != 6 || calls[5] != "GC" {
		t.Errorf("gc: exit %d, calls %q: %s", exit, calls, stderr)
	}
	exit, stdout, _, _ = b.run("version", "net")
	for _, want := range []string{"plugin p: CNI versions 1.0.0, 1.1.0", filepath.Join(b.dir, "bin/p")} {
		if exit != 0 || !strings.Contains(stdout, want) {
			t.Errorf("version: exit %d, %q is not in\n%s", exit, want, stdout)
		}
	}
}

// An operator is told what to do.
func TestMistakes(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		env, args string
		want      []string
	}{
		{"", "frob net /n", []string{"frob", "cnitool help"}},
		{"", "add net", []string{"NETNS"}},
		{"", "add net /n more", []string{"more"}},
		{"", "add --frob net /n", []string{"--frob"}},
		{"", "add net /n -i", []string{"-i"}},
		{"", "add nett /n", []string{`"nett"`, b.env["NETCONFPATH"], "gone, net, single", "30-bad.conflist"}},
		{"NETCONFPATH=/nowhere", "add net /n", []string{"/nowhere"}},
		{"CNI_PATH=", "add net /n", []string{"CNI_PATH", "not set"}},
		{"", "del gone /n", []string{`"gone"`, "DEL", b.env["CNI_PATH"], "hint: CNI_PATH"}},
		{"", "check single /n", []string{"0.4.0"}},
		{"", "check net /n", []string{"add it first"}},
		{"CNI_IFNAME=bad0", "add net /n", []string{`"p" ADD`, `"bad0"`, "exit status 1", "later", "try again"}},
		{"CNI_CONTAINERID=../x", "add net /n", []string{"../x"}},
		{"CNI_ARGS=A", "add net /n", []string{"CNI_ARGS", `"A"`}},
		{"CNI_ARGS=A=b=c", "add net /n", []string{"CNI_ARGS"}},
		{"CNI_ARGS=A=b;", "add net /n", []string{"CNI_ARGS"}},
		{"CAP_ARGS=[]", "add net /n", []string{"CAP_ARGS"}},
	} {
		key, value, _ := strings.Cut(c.env, "=")
		old := b.env[key]
		b.env[key] = value
		exit, stdout, stderr, _ := b.run(strings.Fields(c.args)...)
		b.env[key] = old
		if exit != 1 || stdout != "" {
			t.Errorf("%s %s: exit %d, %q", c.env, c.args, exit, stdout)
		}
		for _, want := range c.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s %s: %q is not in\n%s", c.env, c.args, want, stderr)
			}
		}
	}
	for _, help := range []string{"", "help", "--help", "add -h"} {
		if exit, stdout, _, _ := b.run(strings.Fields(help)...); exit != 0 || !strings.Contains(stdout, "NETCONFPATH") {
			t.Errorf("%q: exit %d: %s", help, exit, stdout)
		}
	}
}
