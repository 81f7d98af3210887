package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
)

// plugin writes an executable and returns a request to call it with.
func plugin(t *testing.T, script string) (dir string, req *cni.Request) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, &cni.Request{
		Verb: cni.VerbDel, ContainerID: "c1", IfName: "eth0", Path: []string{dir},
		Config: []byte(`{"cniVersion":"0.4.0","name":"net"}`),
	}
}

// alive reports whether the process whose number is in a file is there and no
// zombie.
func alive(t *testing.T, file string) bool {
	t.Helper()
	var pid string
	for range 3000 { // the plugin may not have come to write it yet
		if data, _ := os.ReadFile(file); bytes.HasSuffix(data, []byte("\n")) {
			pid = strings.TrimSpace(string(data))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := strconv.Atoi(pid); err != nil {
		t.Fatalf("no process number in %s: %q", file, pid)
	}
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestCancellationEndsTheGroup(t *testing.T) {
	for name, c := range map[string]struct {
		grace   time.Duration
		script  string
		message string
	}{
		"obeys":           {time.Minute, `sleep 100 & echo $! > "$CNI_ARGS"; wait`, "signal: terminated"},
		"deaf":            {200 * time.Millisecond, `trap "" TERM; sleep 100 & echo $! > "$CNI_ARGS"; while :; do wait; done`, "signal: killed"},
		"deaf grandchild": {200 * time.Millisecond, `(trap "" TERM; exec sleep 100) & echo $! > "$CNI_ARGS"; wait`, "signal: terminated"},
		"at once":         {-1, `sleep 100 & echo $! > "$CNI_ARGS"; wait`, "signal: killed"},
		"undoes":          {0, `trap 'echo "{\"code\":11,\"msg\":\"undone\"}"; exit 1' TERM; sleep 100 & echo $! > "$CNI_ARGS"; wait`, "undone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, req := plugin(t, c.script)
			req.Args = filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				alive(t, req.Args)
				cancel()
			}()
			start := time.Now()
			_, err := (&runtime.Exec{Grace: c.grace}).Invoke(ctx, "p", req)
			if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("error %v, want %q", err, c.message)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			for end := time.Now().Add(20 * time.Second); alive(t, req.Args); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) { // dying takes a moment
					t.Fatal("the grandchild lives on")
				}
			}
		})
	}
}

// A plugin may leave a process behind that holds all it inherited.
func TestDoesNotWaitForADaemon(t *testing.T) {
	_, req := plugin(t, `sleep 100 & echo $! > "$CNI_ARGS"; echo '{"ips":[{"version":"4","address":"10.0.0.2/24"}]}'`)
	req.Verb, req.Args = cni.VerbAdd, filepath.Join(t.TempDir(), "pid")
	req.Config = append(req.Config, bytes.Repeat([]byte(" "), 1<<20)...) // more than a pipe holds, and nobody reads it
	start := time.Now()
	result, err := (&runtime.Exec{}).Invoke(context.Background(), "p", req)
	if err != nil || len(result.IPs) != 1 || result.CNIVersion != cni.V040 {
		t.Errorf("result %+v, %v", result, err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	if !alive(t, req.Args) {
		t.Error("the daemon was killed")
	}
	data, _ := os.ReadFile(req.Args)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func TestTextFileBusy(t *testing.T) {
	dir, req := plugin(t, "")
	f, err := os.OpenFile(filepath.Join(dir, "p"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		time.Sleep(300 * time.Millisecond)
		_, _ = f.WriteString("echo written >&2\n")
		f.Close()
	}()
	var stderr bytes.Buffer
	if _, err := (&runtime.Exec{Stderr: &stderr}).Invoke(context.Background(), "p", req); err != nil {
		t.Error(err)
	}
	<-written
	if stderr.String() != "written\n" {
		t.Errorf("stderr %q", &stderr)
	}

	// Not for ever, and not against the caller's will.
	f, err = os.OpenFile(filepath.Join(dir, "p"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := (&runtime.Exec{}).Invoke(ctx, "p", req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("still busy: %v", err)
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		code   cni.Code
		want   []string
		not    string
	}{
		"signal":       {`echo last words >&2; kill -9 $$`, cni.CodeInternal, []string{"signal: killed", "last words", "no error on standard output"}, ""},
		"json":         {`echo '{"code":7,"msg":"bad","details":"very"}'; exit 2`, cni.CodeInvalidConfig, []string{"exit status 2", "bad; very (code 7)"}, "stderr"},
		"no json":      {`echo oops; exit 1`, cni.CodeInternal, []string{"exit status 1", `oops`}, ""},
		"empty object": {`echo '{}'; exit 1`, cni.CodeInternal, []string{"exit status 1"}, ""},
		"stderr tail":  {`i=0; while [ $i -lt 1000 ]; do echo "line $i"; i=$((i+1)); done >&2; exit 1`, cni.CodeInternal, []string{"line 999", `stderr: "line `}, "line 500"},
		"binary":       {`printf '\377\n' >&2; exit 1`, cni.CodeInternal, []string{"stderr"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, req := plugin(t, c.script)
			_, err := (&runtime.Exec{}).Invoke(context.Background(), "p", req)
			var perr *runtime.PluginError
			if !errors.As(err, &perr) || !errors.Is(err, c.code) {
				t.Fatalf("%#v", err)
			}
			for _, want := range append(c.want, `plugin "p" DEL`, `network "net"`, `container "c1"`, `interface "eth0"`) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
			if _, answered := perr.Err.(*cni.Error); !answered || errors.Is(err, runtime.ErrNoAnswer) != (c.code == cni.CodeInternal) {
				t.Errorf("a plugin that answers is not told from one that doesn't: %v", err)
			}
			if c.not != "" && strings.Contains(err.Error(), c.not) || len(err.Error()) > 4096 {
				t.Errorf("%q is in %v", c.not, err)
			}
			// What a plugin that delegates answers keeps the code.
			if e := cni.AsError(err); e.Code != c.code {
				t.Errorf("answered with code %d", e.Code)
			}
		})
	}
}

// Run tells of an executable what Invoke tells of a plugin.
func TestRun(t *testing.T) {
	dir, req := plugin(t, `[ "$CNI_COMMAND" = DEL ] && { echo "$K $L"; exec cat; }; echo '{"code":11,"msg":"later"}'; exit 1`)
	file := filepath.Join(dir, "p")
	env := []string{"PATH=" + os.Getenv("PATH"), "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "K=v"}
	run := &runtime.Exec{Env: []string{"K=unused"}}
	out, err := run.Run(runtime.WithEnv(context.Background(), "L=w"), file, req.Config, append(env, "CNI_COMMAND=DEL"))
	if want := "v w\n" + string(req.Config); err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	_, err = run.Run(context.Background(), file, req.Config, append(env, "CNI_COMMAND=CHECK"))
	const want = `plugin "p" CHECK, network "net", container "c1", interface "eth0": exit status 1: later (code 11)`
	if err == nil || err.Error() != want || errors.Is(err, runtime.ErrNoAnswer) {
		t.Errorf("%v, want %s", err, want)
	}
	run.Env = append(env, "CNI_COMMAND=DEL", "L=inherited")
	if out, err := run.Run(context.Background(), file, nil, nil); err != nil || string(out) != "v inherited\n" {
		t.Errorf("without an environment: %q, %v", out, err)
	}
	if _, err = run.Run(context.Background(), filepath.Join(dir, "none"), nil, env); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an executable that is not there: %v", err)
	}
}

func TestBadResults(t *testing.T) {
	for name, script := range map[string]string{
		"none":         ``,
		"no json":      `echo ok`,
		"no object":    `echo '[]'`,
		"bad address":  `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1"}]}'`,
		"no interface": `echo '{"cniVersion":"1.0.0","interfaces":[{"name":"x"}],"ips":[{"address":"10.0.0.1/8","interface":1}]}'`,
		"version":      `echo '{"cniVersion":"9.9.9"}'`,
		"endless":      `exec head -c 9000000 /dev/zero`,
	} {
		_, req := plugin(t, script)
		req.Verb = cni.VerbAdd
		if r, err := (&runtime.Exec{}).Invoke(context.Background(), "p", req); err == nil || len(err.Error()) > 4096 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestFind(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	t.Chdir(first)
	for _, f := range []struct {
		path string
		mode fs.FileMode
	}{
		{filepath.Join(first, "x"), 0o644}, {filepath.Join(second, "x"), 0o755}, {filepath.Join(first, "here"), 0o755},
		{filepath.Join(first, "both"), 0o755}, {filepath.Join(second, "both"), 0o755},
	} {
		if err := os.WriteFile(f.path, []byte("#!/bin/sh\n"), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(first, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := []string{"", "/nowhere", first, second}
	for name, want := range map[string]string{
		"x": filepath.Join(second, "x"), "both": filepath.Join(first, "both"), "dir": "", "here/x": "", "../x": "", "..": "", "": "", "sh": "",
	} {
		got, err := runtime.Find(name, path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	if got, err := runtime.Find("here", []string{"."}); got != "./here" {
		t.Errorf("in the working directory: %q, %v", got, err)
	}
	if _, err := runtime.Find("here", []string{""}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder is not the working directory: %v", err)
	}
	_, err := runtime.Find("dir", path)
	for _, want := range []string{"/nowhere, " + first + ", " + second, "not executable: " + filepath.Join(first, "dir")} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestAbout(t *testing.T) {
	dir, _ := plugin(t, `[ -z "$CNI_COMMAND" ] && echo "CNI p plugin v1.2.3" >&2`)
	file, line, err := (&runtime.Exec{}).About(context.Background(), "p", []string{dir})
	if err != nil || file != filepath.Join(dir, "p") || line != "CNI p plugin v1.2.3" {
		t.Errorf("%q %q %v", file, line, err)
	}
}

func TestOverrideIsPassedOn(t *testing.T) {
	_, req := plugin(t, `echo "$CNI_NETNS_OVERRIDE/$FROM/$CNI_COMMAND" >&2`)
	req.NetNSOverride = true
	var stderr bytes.Buffer
	e := &runtime.Exec{Env: []string{"FROM=env", "CNI_COMMAND=ADD"}, Stderr: &stderr}
	if _, err := e.Invoke(runtime.WithEnv(context.Background(), "FROM=context"), "p", req); err != nil {
		t.Fatal(err)
	}
	if want := "1/context/DEL\n"; stderr.String() != want {
		t.Errorf("environment %q, want %q", &stderr, want)
	}
}

func ExampleFind() {
	_, err := runtime.Find("bridge", []string{"/nowhere", "/neither"})
	fmt.Println(err)
	// Output: no executable of plugin "bridge" in /nowhere, /neither
}
