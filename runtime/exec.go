package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/plumb-cni/plumb/cni"
)

const (
	maxAnswer  = 8 << 20 // of a plugin's standard output
	stderrTail = 2 << 10 // of its standard error, in an error message

	// busyFor is how long "text file busy" is retried: the executable is
	// being written at this moment, or was when another thread forked.
	busyFor = 5 * time.Second

	// stdinWait is how long a plugin that has ended is waited for to have
	// read its configuration: not for ever, if it left a process behind.
	stdinWait = 100 * time.Millisecond
)

// ErrNoAnswer says that a plugin failed without reporting why, as one that was
// killed does.
var ErrNoAnswer = errors.New("no error on standard output")

// Exec is the Invoker that starts a process per call. The zero value is ready.
//
// The plugin gets the whole environment of this process with the CNI_*
// variables of the request in place of what was there, so that TRACEPARENT and
// TRACESTATE reach it. CNI_NETNS_OVERRIDE is only ever added.
//
// A plugin runs in a process group of its own. When the context ends, the
// group is sent SIGTERM, so that a plugin can undo what it has begun, and
// SIGKILL after Grace; all of the group has been killed when Invoke returns.
type Exec struct {
	// Env is the environment to pass on, "key=value". Nil means os.Environ().
	Env []string

	// Stderr receives the standard error of every plugin. Nil discards it;
	// its tail is part of the error of a plugin that fails, in any case.
	Stderr io.Writer

	// Grace is the time between SIGTERM and SIGKILL. Zero means 3 seconds,
	// negative means SIGKILL at once. A plugin that starts plugins itself
	// needs a smaller value than its caller, or those outlive it.
	Grace time.Duration

	mu sync.Mutex // guards writes to Stderr
}

var _ Invoker = (*Exec)(nil)

type envKey struct{}

// WithEnv returns a context that adds variables, "key=value", to the
// environment of the plugins that Exec starts with it, after Exec.Env and
// before CNI_*: the trace of one request, in a process that serves many.
func WithEnv(ctx context.Context, env ...string) context.Context {
	old, _ := ctx.Value(envKey{}).([]string)
	return context.WithValue(ctx, envKey{}, append(old[:len(old):len(old)], env...))
}

// Invoke runs the plugin's executable. Errors are *PluginError.
func (e *Exec) Invoke(ctx context.Context, plugin string, req *cni.Request) (*cni.Result, error) {
	run, err := e.run(ctx, plugin, req)
	if err != nil {
		return nil, pluginError(plugin, req, run, err)
	}
	if req.Verb != cni.VerbAdd {
		return nil, nil
	}
	// A result that names no version has that of the configuration.
	conf, _ := cni.Identify(req.Config) // the plugin has taken it
	result, err := cni.DecodeResult(run.stdout, conf.CNIVersion)
	if err != nil {
		return nil, pluginError(plugin, req, run, fmt.Errorf("decode result %s: %w", quote(run.stdout), err))
	}
	return result, nil
}

// unknownVersion is the message of plugins that don't know the verb VERSION. They
// came before codes had a meaning, so this text is all to know them by, as the
// reference's library does.
const unknownVersion = "unknown CNI_COMMAND: VERSION"

// Versions asks the plugin by VERSION. One that answers that it does not know the
// verb is of the time before it: it supports 0.1.0.
func (e *Exec) Versions(ctx context.Context, plugin string, path []string) ([]cni.Version, error) {
	// Plugins of old want the variables of an attachment even here.
	req := &cni.Request{
		Verb: cni.VerbVersion, ContainerID: "dummy", NetNS: "dummy", IfName: "dummy", Path: path,
		Config: []byte(`{"cniVersion":"` + string(cni.Latest) + `"}`),
	}
	run, err := e.run(ctx, plugin, req)
	if answer := (*cni.Error)(nil); errors.As(err, &answer) && answer.Msg == unknownVersion {
		return []cni.Version{cni.V010}, nil
	}
	var versions []cni.Version
	if err == nil {
		if versions, err = cni.DecodeVersions(run.stdout); err == nil {
			return versions, nil
		}
		err = fmt.Errorf("decode versions %s: %w", quote(run.stdout), err)
	}
	req.ContainerID, req.IfName = "", ""
	return nil, pluginError(plugin, req, run, err)
}

// About returns where the plugin was found and the first line that its
// executable prints when it is started without a request: by convention its
// name and release.
func (e *Exec) About(ctx context.Context, plugin string, path []string) (file, line string, err error) {
	run, err := e.run(ctx, plugin, &cni.Request{Path: path})
	if err != nil {
		return run.file, "", pluginError(plugin, &cni.Request{Verb: "about"}, run, err)
	}
	line, _, _ = strings.Cut(run.stderr.String(), "\n")
	return run.file, line, nil
}

// Run starts an executable with config on standard input and returns what it
// printed on standard output. Its environment is env, and what WithEnv added to
// the context; nil means Exec.Env. Errors are *PluginError, as those of Invoke.
func (e *Exec) Run(ctx context.Context, file string, config []byte, env []string) ([]byte, error) {
	if env == nil {
		env = e.base()
	}
	extra, _ := ctx.Value(envKey{}).([]string)
	r := &run{file: file, stderr: tail{max: stderrTail}}
	if err := e.process(ctx, r, config, slices.Concat(env, extra)); err != nil {
		failed := pluginError(filepath.Base(file), &cni.Request{Config: config}, r, err)
		for _, variable := range env { // where one is twice, the later counts
			key, value, _ := strings.Cut(variable, "=")
			switch key {
			case "CNI_COMMAND":
				failed.Verb = cni.Verb(value)
			case "CNI_CONTAINERID":
				failed.ContainerID = value
			case "CNI_IFNAME":
				failed.IfName = value
			}
		}
		return nil, failed
	}
	return r.stdout, nil
}

// A run is what became of one process.
type run struct {
	file   string
	stdout []byte
	stderr tail
	exit   string
}

// run finds the plugin, starts it and waits for its end.
func (e *Exec) run(ctx context.Context, plugin string, req *cni.Request) (*run, error) {
	r := &run{stderr: tail{max: stderrTail}}
	var err error
	if r.file, err = Find(plugin, req.Path); err != nil {
		return r, err
	}
	return r, e.process(ctx, r, req.Config, e.environ(ctx, req))
}

// process starts r.file and waits for its end. Each error leaves as much of the
// run as is known; one that the plugin answered is an *cni.Error.
func (e *Exec) process(ctx context.Context, r *run, config []byte, env []string) error {
	stdout := bounded{max: maxAnswer}
	out, err := newCapture(&stdout)
	if err != nil {
		return err
	}
	defer out.close()
	var stderr io.Writer = &r.stderr
	if e.Stderr != nil {
		stderr = io.MultiWriter(stderr, lockedWriter{&e.mu, e.Stderr})
	}
	errs, err := newCapture(stderr)
	if err != nil {
		return err
	}
	defer errs.close()

	cmd, err := e.start(ctx, func() *exec.Cmd {
		cmd := exec.Command(r.file)
		cmd.Env = env
		cmd.Stdin = bytes.NewReader(config)
		cmd.Stdout, cmd.Stderr = out.w, errs.w
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.WaitDelay = stdinWait
		return cmd
	})
	if err != nil {
		return err
	}
	out.begin()
	errs.begin()
	cancelled, err := e.wait(ctx, cmd)
	out.end()
	errs.end()

	r.stdout = stdout.buf.Bytes()
	if state := cmd.ProcessState; state != nil && !state.Success() {
		r.exit = state.String()
	}
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // it succeeded, with its configuration unread perhaps
		err = nil
	case cancelled:
		err = context.Cause(ctx)
		if len(r.stdout) > 0 { // what became of its undo
			err = fmt.Errorf("%w: %w", err, diagnosis(r.stdout))
		}
	case r.exit == "": // it ended well, and yet
		err = fmt.Errorf("wait for it: %w", err)
	default:
		err = diagnosis(r.stdout)
	}
	if err == nil && stdout.overflow {
		err = cni.Errorf(cni.CodeDecode, "more than %d bytes on standard output", maxAnswer)
	}
	return err
}

// start starts the command, again if the executable is busy.
func (e *Exec) start(ctx context.Context, command func() *exec.Cmd) (*exec.Cmd, error) {
	deadline := time.Now().Add(busyFor)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		cmd := command()
		err := cmd.Start()
		if err == nil || !errors.Is(err, syscall.ETXTBSY) || time.Now().After(deadline) {
			return cmd, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// wait waits for the command and ends its process group when ctx does.
func (e *Exec) wait(ctx context.Context, cmd *exec.Cmd) (cancelled bool, err error) {
	grace := e.Grace
	if grace == 0 {
		grace = 3 * time.Second
	}
	group := -cmd.Process.Pid
	var (
		mu     sync.Mutex
		ended  bool // its number may be another's: no more signals
		killer *time.Timer
	)
	stop := context.AfterFunc(ctx, func() {
		sig := syscall.SIGTERM
		if grace < 0 {
			sig = syscall.SIGKILL
		}
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return
		}
		cancelled = true
		_ = syscall.Kill(group, sig)
		killer = time.AfterFunc(grace, func() {
			mu.Lock()
			defer mu.Unlock()
			if !ended {
				_ = syscall.Kill(group, syscall.SIGKILL)
			}
		})
	})
	err = cmd.Wait()
	stop()

	mu.Lock()
	defer mu.Unlock()
	ended = true
	if killer != nil {
		killer.Stop()
	}
	if cancelled {
		// The plugin has ended, but what it started may not have. As long as
		// the group has a member, its number is not given to another.
		_ = syscall.Kill(group, syscall.SIGKILL)
	}
	return cancelled, err
}

// environ is the environment of the process. Where a key is twice, os/exec
// keeps the later one.
func (e *Exec) environ(ctx context.Context, req *cni.Request) []string {
	base := e.base()
	extra, _ := ctx.Value(envKey{}).([]string)
	env := make([]string, 0, len(base)+len(extra)+7)
	env = append(append(env, base...), extra...)
	env = append(env,
		"CNI_COMMAND="+string(req.Verb),
		"CNI_CONTAINERID="+req.ContainerID,
		"CNI_NETNS="+req.NetNS,
		"CNI_IFNAME="+req.IfName,
		"CNI_ARGS="+req.Args,
		"CNI_PATH="+strings.Join(req.Path, string(os.PathListSeparator)),
	)
	if req.NetNSOverride {
		env = append(env, "CNI_NETNS_OVERRIDE=1")
	}
	return env
}

// base is the environment to pass on.
func (e *Exec) base() []string {
	if e.Env == nil {
		return os.Environ()
	}
	return e.Env
}

// Find returns the executable of a plugin: the first in path, in order. A type
// that is no plain file name is refused with cni.CodeInvalidConfig; an
// executable that is nowhere is a *NotFoundError.
func Find(plugin string, path []string) (string, error) {
	if plugin == "" || plugin == "." || plugin == ".." || strings.ContainsAny(plugin, "/\x00") {
		return "", cni.Errorf(cni.CodeInvalidConfig, "plugin type %q is not a file name", plugin)
	}
	missing := &NotFoundError{Plugin: plugin}
	for _, dir := range path {
		if dir == "" {
			continue // "a::b": not the working directory
		}
		missing.Path = append(missing.Path, dir)
		file := filepath.Join(dir, plugin)
		if !strings.Contains(file, "/") {
			file = "./" + file // os/exec would search $PATH for a bare name
		}
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			missing.Unfit = append(missing.Unfit, file)
			continue
		}
		return file, nil
	}
	return "", missing
}

// diagnosis is the error that a plugin which failed has left on standard
// output.
func diagnosis(stdout []byte) error {
	if len(bytes.TrimSpace(stdout)) == 0 {
		return cni.Errorf(cni.CodeInternal, "%w", ErrNoAnswer)
	}
	answer, err := cni.DecodeError(stdout)
	if err != nil {
		return cni.Errorf(cni.CodeInternal, "%w but %s", ErrNoAnswer, quote(stdout))
	}
	return answer
}

func pluginError(plugin string, req *cni.Request, r *run, err error) *PluginError {
	conf, _ := cni.Identify(req.Config) // the plugin has complained
	return &PluginError{
		Plugin: plugin, Verb: req.Verb, Network: conf.Name,
		ContainerID: req.ContainerID, IfName: req.IfName,
		Exit: r.exit, Stderr: r.stderr.String(), Err: err,
	}
}

// quote shortens what a plugin printed for a message.
func quote(data []byte) string {
	const most = 512
	if len(data) > most {
		return fmt.Sprintf("%q...", data[:most])
	}
	return fmt.Sprintf("%q", data)
}
