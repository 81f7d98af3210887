// How many processors a cgroup allows is no matter for a process that lives for
// milliseconds: it need not follow that.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command plumb-runc is an OCI runtime for Docker: it has a container attached
// to networks before its process starts, and leaves all else to runc, which it
// becomes. It is also the hooks that do so.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/plumb-cni/plumb/internal/docker"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/runtime"
)

// hookTime is how long a container may take to get on its networks: longer than a
// DHCP server needs, and not for ever, since the engine waits.
const hookTime = 2 * time.Minute

// settings are the options, --plumb-NAME=VALUE, that stand before the runtime's
// own: "runtimeArgs" of daemon.json.
type settings struct {
	runtime string   // the OCI runtime to become
	netDir  string   // network configurations
	path    []string // folders of plugins
	records string
	given   []string // the options as they came
}

func main() {
	args := os.Args[1:]
	hook := ""
	if len(args) > 0 && (args[0] == docker.HookStart || args[0] == docker.HookStop) {
		hook, args = args[0], args[1:]
	}
	s, args, err := parse(args)
	if err == nil && hook != "" {
		err = s.runHook(hook, args)
		if err == nil {
			return
		}
	} else if err == nil {
		err = s.become(args)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// parse takes the options off the front.
func parse(args []string) (settings, []string, error) {
	s := settings{netDir: docker.DefaultNetDir, path: []string{docker.DefaultPath}, records: docker.DefaultRecords}
	for len(args) > 0 && strings.HasPrefix(args[0], "--plumb-") {
		name, value, _ := strings.Cut(args[0], "=")
		if value == "" {
			return s, nil, fmt.Errorf("plumb-runc: option %s has no value: --plumb-NAME=VALUE", args[0])
		}
		switch name {
		case "--plumb-runtime":
			s.runtime = value
		case "--plumb-netdir":
			s.netDir = value
		case "--plumb-path":
			s.path = filepath.SplitList(value)
		case "--plumb-records":
			s.records = value
		default:
			return s, nil, fmt.Errorf("plumb-runc: unknown option %s; there are --plumb-runtime, --plumb-netdir, --plumb-path and --plumb-records", name)
		}
		s.given, args = append(s.given, args[0]), args[1:]
	}
	return s, args, nil
}

// become replaces this process by the runtime, after the bundle has been
// prepared. It returns only if it can't.
func (s settings) become(args []string) error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("plumb-runc: %w", err)
	}
	been := append(copies(), self)
	real, err := s.find(been)
	if err != nil {
		return err
	}
	if err := os.Setenv(beenVariable, fmt.Sprint(os.Getpid(), " ", strings.Join(been, ":"))); err != nil {
		return fmt.Errorf("plumb-runc: %w", err)
	}
	if len(been) > 1 { // the first has prepared it
		return execute(real, args)
	}
	w := docker.Wrapper{Self: self, Options: s.given, Records: docker.Records{Dir: s.records}}
	for _, name := range []string{"PATH", "PLUMB_LOG"} {
		if value := os.Getenv(name); value != "" {
			w.HookEnv = append(w.HookEnv, name+"="+value)
		}
	}
	if err := w.Prepare(args); err != nil {
		return err
	}
	return execute(real, args)
}

func execute(real string, args []string) error {
	err := syscall.Exec(real, append([]string{real}, args...), os.Environ())
	return fmt.Errorf("plumb-runc: execute %s: %w", real, err)
}

// beenVariable tells a copy of this program, which is executed in the place of
// runc, what this process has been already: its ID, and after a blank the programs
// as in a PATH. Two copies would execute each other for ever.
const beenVariable = "PLUMB_RUNC_BEEN"

// copies returns the copies of this program that this process has been.
func copies() []string {
	id, programs, _ := strings.Cut(os.Getenv(beenVariable), " ")
	if id != strconv.Itoa(os.Getpid()) {
		return nil // that of a process above
	}
	return filepath.SplitList(programs)
}

// find returns the runtime to become: the one that was named, or the first runc
// of the PATH that is none of the programs that this process has been.
func (s settings) find(been []string) (string, error) {
	if s.runtime != "" {
		path, err := exec.LookPath(s.runtime)
		if err != nil {
			return "", fmt.Errorf("plumb-runc: --plumb-runtime: %w", err)
		}
		return path, nil
	}
	var own []fs.FileInfo
	for _, program := range been {
		info, err := os.Stat(program)
		if err != nil {
			return "", fmt.Errorf("plumb-runc: %w", err)
		}
		own = append(own, info)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, "runc")
		info, err := os.Stat(path)
		if err != nil || !filepath.IsAbs(path) || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		if !slices.ContainsFunc(own, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
			return path, nil
		}
	}
	return "", errors.New("plumb-runc: there is no runc on the PATH; --plumb-runtime=PATH names another runtime")
}

// runHook is what the OCI runtime starts while it makes a container, and after it
// has ended.
func (s settings) runHook(hook string, args []string) error {
	if want := map[string]int{docker.HookStart: 2, docker.HookStop: 1}[hook]; len(args) != want {
		return fmt.Errorf("plumb-runc: %s is a hook, with %d arguments", hook, want)
	}
	ctx, stop := protocol.Signals(context.Background())
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	a := &docker.Attacher{
		Runtime: &runtime.Runtime{
			Path: s.path,
			Warn: func(err error) { fmt.Fprintln(os.Stderr, "plumb-runc: warning:", err) },
		},
		NetDir:  s.netDir,
		Records: docker.Records{Dir: s.records},
	}
	state, err := docker.ReadHookState(os.Stdin)
	if err != nil {
		return fmt.Errorf("plumb-runc: %w", err)
	}
	c, err := state.Container(args[0])
	if hook == docker.HookStop {
		// A container that is being removed may have no files any more. What
		// can't be read for another reason is kept for its next start.
		forget := errors.Is(err, fs.ErrNotExist) || err == nil && c.AutoRemove
		if err := a.Stop(ctx, state.ID, forget); err != nil {
			return fmt.Errorf("plumb-runc: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("plumb-runc: %w", err)
	}
	path, err := state.NetNS(args[1])
	if err == nil {
		err = a.Start(ctx, c, path)
	}
	if err != nil {
		return fmt.Errorf("plumb-runc: %w", err)
	}
	return nil
}
