package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Wrapper puts itself before an OCI runtime, to whose command line it adds
// nothing: it changes the bundle.
type Wrapper struct {
	Self    string   // the program that the hooks execute
	HookEnv []string // and their environment
	Options []string // what they are given, --plumb-NAME=VALUE
	Records Records
}

// Arguments that start a hook: the program, one of these, the options, and what
// the hook is about.
const (
	HookStart = "plumb-start" // CONTAINERDIR KEYSDIR, the folder of the container and that of mounted namespaces
	HookStop  = "plumb-stop"  // CONTAINERDIR
)

// Prepare adds the hooks to the bundle if the command makes a container of
// Docker's that has a network namespace of its own. An error means that it must
// not be made: it is to be on networks, and would not be.
func (w *Wrapper) Prepare(args []string) error {
	c := parseCommand(args)
	if !c.starts() || c.ID == "" {
		return nil
	}
	err := w.prepare(c)
	if err != nil {
		err = fmt.Errorf("plumb-runc: %w", err)
		c.tell(err)
	}
	return err
}

func (w *Wrapper) prepare(c command) error {
	b, err := readBundle(c.Bundle)
	if err != nil {
		return nil // the runtime will say so
	}
	dir := b.containerDir(c.ID)
	if dir == "" {
		return nil
	}
	container, err := ReadContainer(dir)
	if err != nil {
		return err
	}
	container.annotate(b.annotations)
	wants, err := container.Wants()
	if err != nil || !b.newNetNS() {
		return err
	}
	_, err = os.Stat(filepath.Join(w.Records.Dir, c.ID))
	known := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(wants) > 0 || known {
		if err := b.add("createRuntime", w.hook(HookStart, dir, b.keysDir())); err != nil {
			return err
		}
	}
	// The others may be connected while they run.
	if err := b.add("poststop", w.hook(HookStop, dir)); err != nil {
		return err
	}
	return b.write()
}

func (w *Wrapper) hook(what string, about ...string) hook {
	args := append([]string{filepath.Base(w.Self), what}, w.Options...)
	return hook{Path: w.Self, Args: append(args, about...), Env: w.HookEnv}
}

// annotate has annotations of the bundle, which newer engines than 20.10 pass on,
// stand before labels of the same names.
func (c *Container) annotate(annotations map[string]string) {
	for key, value := range annotations {
		if strings.HasPrefix(key, labels) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[key] = value
		}
	}
}

// tell writes an error to where the runtime would, for the engine to show it.
func (c command) tell(err error) {
	if c.Log == "" {
		return
	}
	f, openErr := os.OpenFile(c.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if openErr != nil {
		return // it is on standard error as well
	}
	defer f.Close()
	line := []byte(err.Error())
	if c.JSON {
		line, _ = json.Marshal(map[string]string{"level": "error", "msg": err.Error(), "time": time.Now().Format(time.RFC3339)})
	}
	f.Write(append(line, '\n')) //nolint:errcheck // as above
}

// HookState is what a hook reads of its standard input (runtime specification,
// "State").
type HookState struct {
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Annotations map[string]string `json:"annotations"`
}

// ReadHookState decodes it.
func ReadHookState(in io.Reader) (*HookState, error) {
	s := new(HookState)
	if err := json.NewDecoder(in).Decode(s); err != nil {
		return nil, fmt.Errorf("state of the container: %w", err)
	}
	return s, nil
}

// Container reads the container that a hook is about from its folder.
func (s *HookState) Container(dir string) (*Container, error) {
	c, err := ReadContainer(dir)
	if err != nil {
		return nil, err
	}
	c.annotate(s.Annotations)
	return c, nil
}

// NetNS returns the path of the container's namespace: where the engine has
// mounted it, which outlives the container's processes, or that of its first
// process. Docker 20.10 has mounted it before this hook; newer engines do so after it.
func (s *HookState) NetNS(keysDir string) (string, error) {
	path := fmt.Sprintf("/proc/%d/ns/net", s.PID)
	ns, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("namespace of the container: %w", err)
	}
	entries, err := os.ReadDir(keysDir)
	if err != nil {
		return path, nil
	}
	for _, e := range entries {
		key := filepath.Join(keysDir, e.Name())
		if there, err := os.Stat(key); err == nil && os.SameFile(ns, there) {
			return key, nil
		}
	}
	return path, nil
}
