package protocol_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/protocol"
)

const release = "v1.9.1+plumb.0.0.0"

// The test binary is the plugin when this variable says so.
func TestMain(m *testing.M) {
	if os.Getenv("PROTOCOL_TEST_PLUGIN") != "" {
		protocol.Main(&plugin{}, release, nil)
	}
	os.Exit(m.Run())
}

// A plugin does what the network's name says.
type plugin struct {
	versions []cni.Version
	calls    []cni.Request
	fail     error
}

func (p *plugin) Name() string { return "test" }

func (p *plugin) Versions() []cni.Version {
	if p.versions != nil {
		return p.versions
	}
	return cni.Versions()
}

func (p *plugin) Handle(ctx context.Context, req *cni.Request) (*cni.Result, error) {
	p.calls = append(p.calls, *req)
	switch {
	case bytes.Contains(req.Config, []byte(`"invalid"`)):
		return &cni.Result{IPs: make([]cni.IP, 1)}, nil
	case bytes.Contains(req.Config, []byte(`"panics"`)):
		panic("boom")
	case bytes.Contains(req.Config, []byte(`"waits"`)):
		fmt.Fprintln(os.Stderr, "ready")
		select {
		case <-ctx.Done():
			fmt.Fprintln(os.Stderr, "undone")
			return nil, cni.Errorf(cni.CodeTryAgain, "add: %w", ctx.Err())
		case <-time.After(20 * time.Second):
			return nil, errors.New("nobody cancelled")
		}
	}
	return &cni.Result{IPs: []cni.IP{{Address: netip.MustParsePrefix("10.0.0.2/24")}}}, p.fail
}

// serve serves one request and returns what came of it. A variable that is ""
// in env is unset.
func serve(p *plugin, env map[string]string, stdin string) (exit int, stdout, stderr string) {
	var out, errs bytes.Buffer
	exit = protocol.Serve(context.Background(), p, protocol.Environment{
		Getenv: func(k string) string { return env[k] },
		Stdin:  strings.NewReader(stdin), Stdout: &once{Buffer: &out}, Stderr: &errs,
	}, release)
	return exit, out.String(), errs.String()
}

// once fails the second write: standard output is written whole.
type once struct {
	*bytes.Buffer
	written bool
}

func (o *once) Write(p []byte) (int, error) {
	if o.written {
		panic("second write to standard output")
	}
	o.written = true
	return o.Buffer.Write(p)
}

func env(verb string, change ...string) map[string]string {
	e := map[string]string{
		"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/none",
		"CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": "A=b",
	}
	for i := 0; i+1 < len(change); i += 2 {
		e[change[i]] = change[i+1]
	}
	return e
}

const conf = `{"cniVersion":"1.1.0","name":"net","type":"test"}`

func TestRefused(t *testing.T) {
	own := fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	all := map[string]string{"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": "", "CNI_PATH": ""}
	none := func(verb string) map[string]string {
		e := env(verb)
		for k := range all {
			e[k] = ""
		}
		return e
	}
	for name, c := range map[string]struct {
		env   map[string]string
		stdin string
		code  cni.Code
		want  []string // in the message or details
	}{
		"add: all missing":     {none("ADD"), conf, 4, []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"}},
		"check: all missing":   {none("CHECK"), conf, 4, []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"}},
		"del: all missing":     {none("DEL"), conf, 4, []string{"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"}},
		"gc: path missing":     {none("GC"), conf, 4, []string{"CNI_PATH"}},
		"status: path missing": {none("STATUS"), conf, 4, []string{"CNI_PATH"}},
		"command":              {env("FROB"), conf, 4, []string{"CNI_COMMAND", "FROB"}},
		"command's case":       {env("add"), conf, 4, []string{"CNI_COMMAND"}},
		"invalid, both":        {env("ADD", "CNI_CONTAINERID", "../x", "CNI_IFNAME", "a/b"), conf, 4, []string{"CNI_CONTAINERID", "../x", "CNI_IFNAME", "a/b"}},
		"long interface name":  {env("DEL", "CNI_IFNAME", "1234567890123456"), conf, 4, []string{"CNI_IFNAME"}},
		"host, by path":        {env("ADD", "CNI_NETNS", own), conf, 4, []string{"CNI_NETNS", own}},
		"host, by link":        {env("CHECK", "CNI_NETNS", "/proc/self/ns/net"), conf, 4, []string{"CNI_NETNS"}},
		"host, on del":         {env("DEL", "CNI_NETNS", "/proc/self/ns/net"), conf, 4, []string{"CNI_NETNS"}},
		"host, own number":     {env("DEL", "CNI_NETNS", own), conf, 4, []string{"CNI_NETNS"}},
		"no configuration":     {env("ADD"), ``, 6, []string{"configuration"}},
		"torn configuration":   {env("DEL"), conf[:20], 6, []string{"configuration"}},
		"list":                 {env("ADD"), `[]`, 6, []string{"configuration"}},
		"name's type":          {env("ADD"), `{"cniVersion":"1.0.0","name":7}`, 6, nil},
		"version's type":       {env("ADD"), `{"cniVersion":1,"name":"net"}`, 6, nil},
		"no name":              {env("ADD"), `{"cniVersion":"1.0.0"}`, 7, []string{"name"}},
		"null":                 {env("ADD"), `null`, 6, []string{"not a JSON object"}},
		"invalid name":         {env("ADD"), `{"cniVersion":"1.0.0","name":"a/b"}`, 7, []string{"a/b"}},
		"future version":       {env("ADD"), `{"cniVersion":"9.9.9","name":"net"}`, 1, []string{"9.9.9", "1.1.0"}},
		"no version at all":    {env("ADD"), `{"cniVersion":"x","name":"net"}`, 1, []string{"x"}},
		"check before 0.4.0":   {env("CHECK"), `{"cniVersion":"0.3.1","name":"net"}`, 1, []string{"CHECK", "0.4.0"}},
		"gc before 1.1.0":      {env("GC"), `{"cniVersion":"1.0.0","name":"net"}`, 1, []string{"GC", "1.1.0"}},
		"status before 1.1.0":  {env("STATUS"), `{"cniVersion":"1.0.0","name":"net"}`, 1, []string{"STATUS", "1.1.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plugin{}
			exit, stdout, _ := serve(p, c.env, c.stdin)
			e, err := cni.DecodeError([]byte(stdout))
			if err != nil || exit != 1 || e.Code != c.code {
				t.Fatalf("exit %d, code %v, want 1, %d: %s", exit, e, c.code, stdout)
			}
			for _, w := range c.want {
				if !strings.Contains(e.Msg+e.Details, w) {
					t.Errorf("%q is not in %s", w, stdout)
				}
			}
			if len(p.calls) > 0 {
				t.Errorf("the handler was called: %+v", p.calls)
			}
		})
	}
}

func TestServed(t *testing.T) {
	for name, c := range map[string]struct {
		env   map[string]string
		stdin string
		want  cni.Request // Verb, Path and Config are as sent
		out   string      // a part of standard output; "" is none at all
	}{
		"add":           {env("ADD"), conf, cni.Request{ContainerID: "c1", NetNS: "/run/netns/none", IfName: "eth0", Args: "A=b"}, `"10.0.0.2/24"`},
		"add, override": {env("ADD", "CNI_NETNS", "/proc/self/ns/net", "CNI_NETNS_OVERRIDE", "True"), conf, cni.Request{ContainerID: "c1", NetNS: "/proc/self/ns/net", IfName: "eth0", Args: "A=b", NetNSOverride: true}, `"1.1.0"`},
		"add 0.2.0":     {env("ADD"), `{"name":"net"}`, cni.Request{ContainerID: "c1", NetNS: "/run/netns/none", IfName: "eth0", Args: "A=b"}, `"ip4"`},
		"any case":      {env("ADD"), `{"CNIVERSION":"0.4.0","Name":"net"}`, cni.Request{ContainerID: "c1", NetNS: "/run/netns/none", IfName: "eth0", Args: "A=b"}, `"0.4.0"`},
		"check":         {env("CHECK"), conf, cni.Request{ContainerID: "c1", NetNS: "/run/netns/none", IfName: "eth0", Args: "A=b"}, ""},
		"del":           {env("DEL", "CNI_NETNS", ""), conf, cni.Request{ContainerID: "c1", IfName: "eth0", Args: "A=b"}, ""},
		"gc":            {env("GC"), conf, cni.Request{}, ""},
		"status":        {env("STATUS", "CNI_CONTAINERID", "/"), conf, cni.Request{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plugin{}
			exit, stdout, stderr := serve(p, c.env, c.stdin)
			if exit != 0 || len(p.calls) != 1 {
				t.Fatalf("exit %d, %d calls: %s%s", exit, len(p.calls), stdout, stderr)
			}
			c.want.Verb, c.want.Path, c.want.Config = cni.Verb(c.env["CNI_COMMAND"]), []string{"/opt/cni/bin"}, []byte(c.stdin)
			if got := fmt.Sprintf("%+v", p.calls[0]); got != fmt.Sprintf("%+v", c.want) {
				t.Errorf("got  %s\nwant %+v", got, c.want)
			}
			if c.out == "" && stdout != "" || !strings.Contains(stdout, c.out) {
				t.Errorf("stdout %q, want %q", stdout, c.out)
			}
		})
	}
}

// Receive refuses and accepts what Serve does, and neither calls the plugin nor answers.
func TestReceive(t *testing.T) {
	receive := func(p *plugin, env map[string]string, stdin string) (*cni.Request, error) {
		return protocol.Receive(p, protocol.Environment{
			Getenv: func(k string) string { return env[k] },
			Stdin:  strings.NewReader(stdin), Stdout: nil, Stderr: io.Discard,
		})
	}
	p := &plugin{}
	req, err := receive(p, env("ADD"), conf)
	if err != nil || req.Verb != cni.VerbAdd || req.ContainerID != "c1" || string(req.Config) != conf {
		t.Errorf("ADD: %+v, %v", req, err)
	}
	// A configuration without a version is of the oldest that the plugin has.
	if _, err := receive(&plugin{versions: []cni.Version{cni.V010}}, env("ADD"), `{"name":"net"}`); err != nil {
		t.Errorf("no version: %v", err)
	}
	if req, err := receive(p, env("VERSION"), ""); err != nil || req.Verb != cni.VerbVersion {
		t.Errorf("VERSION: %+v, %v", req, err)
	}
	if _, err := receive(p, env("ADD", "CNI_NETNS", "/proc/self/ns/net"), conf); !errors.Is(err, cni.CodeInvalidEnvironment) {
		t.Errorf("the host's namespace: %v", err)
	}
	if _, err := receive(p, env("ADD"), "{"); !errors.Is(err, cni.CodeDecode) {
		t.Errorf("no configuration: %v", err)
	}
	if p.calls != nil {
		t.Errorf("the plugin was called: %+v", p.calls)
	}
}

// A container's process that is gone may have lent its number to a process of
// the host: DEL works then, without a namespace.
func TestDelReusedPID(t *testing.T) {
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	path := fmt.Sprintf("/proc/%d/ns/net", sleep.Process.Pid)
	p := &plugin{}
	exit, stdout, stderr := serve(p, env("DEL", "CNI_NETNS", path), conf)
	if exit != 0 || len(p.calls) != 1 || p.calls[0].NetNS != "" || !strings.Contains(stderr, path) {
		t.Errorf("exit %d, calls %+v: %s%s", exit, p.calls, stdout, stderr)
	}
	if exit, stdout, _ := serve(p, env("ADD", "CNI_NETNS", path), conf); exit != 1 {
		t.Errorf("ADD in the host's namespace: %s", stdout)
	}
}

func TestVersion(t *testing.T) {
	exit, stdout, _ := serve(&plugin{versions: []cni.Version{cni.V040, cni.V100}},
		map[string]string{"CNI_COMMAND": "VERSION"}, "nobody reads this")
	if want := `{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0"]}` + "\n"; exit != 0 || stdout != want {
		t.Errorf("exit %d: %s", exit, stdout)
	}
	p := &plugin{versions: []cni.Version{cni.V040, cni.V100}}
	if exit, stdout, _ := serve(p, env("ADD"), conf); exit != 1 || !strings.Contains(stdout, `"code": 1`) {
		t.Errorf("version that the plugin doesn't speak: exit %d: %s", exit, stdout)
	}
}

func TestAbout(t *testing.T) {
	exit, stdout, stderr := serve(&plugin{versions: []cni.Version{cni.V040, cni.V100}}, nil, "")
	want := "CNI test plugin " + release + "\nCNI protocol versions supported: 0.4.0, 1.0.0\n"
	if exit != 0 || stdout != "" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr %q", exit, stdout, stderr)
	}
}

func TestErrors(t *testing.T) {
	plain := errors.New("plain")
	full := cni.Errorf(cni.CodeInvalidConfig, "bad subnet").WithDetails("10.0.0.0/33")
	for name, c := range map[string]struct {
		err          error
		code         cni.Code
		msg, details string
	}{
		"plain":         {plain, 999, "plain", ""},
		"cni":           {full, 7, "bad subnet", "10.0.0.0/33"},
		"wrapped":       {fmt.Errorf("ipam: %w", full), 7, "ipam: bad subnet", "10.0.0.0/33"},
		"joined":        {errors.Join(plain, full, nil, errors.New("last")), 7, "plain", "bad subnet; 10.0.0.0/33; last"},
		"nested join":   {errors.Join(full, errors.Join(plain, plain)), 7, "bad subnet", "10.0.0.0/33; plain; plain"},
		"join, wrapped": {fmt.Errorf("del: %w", errors.Join(plain, full)), 7, "del: plain; bad subnet", "10.0.0.0/33"},
		"several %w":    {fmt.Errorf("%w after %w", plain, full), 7, "plain after bad subnet", "10.0.0.0/33"},
	} {
		t.Run(name, func(t *testing.T) {
			exit, stdout, _ := serve(&plugin{fail: c.err}, env("ADD"), conf)
			var got struct {
				CNIVersion, Msg, Details string
				Code                     cni.Code
			}
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || exit != 1 {
				t.Fatalf("exit %d: %s", exit, stdout)
			}
			if got.CNIVersion != "1.1.0" || got.Code != c.code || got.Msg != c.msg || got.Details != c.details {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// An ADD whose result cannot be told has failed, and is undone.
func TestInvalidResult(t *testing.T) {
	p := &plugin{}
	exit, stdout, _ := serve(p, env("ADD"), strings.Replace(conf, `"net"`, `"invalid"`, 1))
	if exit != 1 || len(p.calls) != 2 || p.calls[1].Verb != cni.VerbDel || p.calls[1].ContainerID != "c1" {
		t.Errorf("exit %d, calls %+v: %s", exit, p.calls, stdout)
	}
}

// So has one whose answer can't be written. Of another verb there is nothing to undo.
func TestUnwritten(t *testing.T) {
	for verb, want := range map[string][]cni.Verb{"ADD": {cni.VerbAdd, cni.VerbDel}, "DEL": {cni.VerbDel}} {
		p, e := &plugin{}, env(verb)
		var stderr bytes.Buffer
		exit := protocol.Serve(t.Context(), p, protocol.Environment{
			Getenv: func(k string) string { return e[k] }, Stdin: strings.NewReader(conf), Stdout: full{}, Stderr: &stderr,
		}, release)
		var calls []cni.Verb
		for _, call := range p.calls {
			calls = append(calls, call.Verb)
		}
		if failed := verb == "ADD"; (exit == 1) != failed || strings.Contains(stderr.String(), "write answer") != failed || !slices.Equal(calls, want) {
			t.Errorf("%s: exit %d, calls %q, %s", verb, exit, calls, stderr.String())
		}
	}
}

// full is a file on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestObserve(t *testing.T) {
	var seen []string
	e := env("ADD", "CNI_IFNAME", "")
	protocol.Serve(context.Background(), &plugin{}, protocol.Environment{
		Getenv: func(k string) string { return e[k] }, Stdin: strings.NewReader(conf),
		Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{},
		Observe: func(_ context.Context, req *cni.Request, err error) {
			seen = append(seen, fmt.Sprintf("%s %s %v", req.Verb, req.ContainerID, errors.Is(err, cni.CodeInvalidEnvironment)))
		},
	}, release)
	if len(seen) != 1 || seen[0] != "ADD c1 true" {
		t.Errorf("observed %q", seen)
	}
}

// process starts the test binary as a plugin.
func process(t *testing.T, network string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{"PROTOCOL_TEST_PLUGIN=1"}
	for k, v := range env("ADD", "CNI_NETNS", filepath.Join(t.TempDir(), "none")) {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0","name":"` + network + `"}`)
	return cmd
}

func TestPanic(t *testing.T) {
	cmd := process(t, "panics")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	e, err := cni.DecodeError(stdout.Bytes())
	if err != nil || e.Code != cni.CodeInternal || !strings.Contains(e.Msg, "boom") || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v: %v %s", cmd.ProcessState, err, stdout.Bytes())
	}
	if !strings.Contains(stderr.String(), "protocol_test.go") {
		t.Errorf("no stack: %s", stderr.Bytes())
	}
}

func TestSignal(t *testing.T) {
	pause := 200 * time.Millisecond // signals are not caught at once
	for signals := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}; len(signals) > 0; {
		sig := signals[0]
		cmd := process(t, "waits")
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready := make([]byte, 6)
		if _, err := stderr.Read(ready); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause)
		// Its caller is gone too: the log line of the undo must not kill it.
		stderr.Close()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() && pause < 10*time.Second {
			pause *= 2 // on a busy machine it takes longer
			continue
		}
		signals = signals[1:]
		e, err := cni.DecodeError(stdout.Bytes())
		if err != nil || !errors.Is(e, cni.CodeTryAgain) || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v: %v: %v %s", sig, cmd.ProcessState, err, stdout.Bytes())
		}
	}
}
