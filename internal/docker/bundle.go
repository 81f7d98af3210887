package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/internal/smallfile"
)

// A bundle is what an OCI runtime makes a container from: config.json of the
// runtime specification, of which the parts that are no matter here are kept
// byte for byte.
type bundle struct {
	path   string
	mode   os.FileMode
	object map[string]json.RawMessage

	annotations map[string]string
	mounts      []mount
	namespaces  []namespace
	hooks       map[string][]json.RawMessage
}

type mount struct {
	Destination string `json:"destination"`
	Source      string `json:"source"`
}

type namespace struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

// A hook is a program that the OCI runtime executes (runtime specification,
// "POSIX-platform Hooks").
type hook struct {
	Path string   `json:"path"`
	Args []string `json:"args,omitempty"`
	Env  []string `json:"env,omitempty"`
}

func readBundle(dir string) (*bundle, error) {
	b := &bundle{path: filepath.Join(dir, "config.json")}
	info, err := os.Stat(b.path)
	if err != nil {
		return nil, err
	}
	b.mode = info.Mode().Perm()
	data, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	var linux struct {
		Namespaces []namespace `json:"namespaces"`
	}
	err = json.Unmarshal(data, &b.object)
	for key, into := range map[string]any{"annotations": &b.annotations, "mounts": &b.mounts, "linux": &linux, "hooks": &b.hooks} {
		if value, ok := b.object[key]; ok && err == nil {
			err = json.Unmarshal(value, into)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.path, err)
	}
	b.namespaces = linux.Namespaces
	return b, nil
}

// containerDir returns the folder in which Docker keeps the container, or "" if
// the bundle is not of a container of Docker's.
//
// Nothing in a bundle names it, but Docker mounts files from it: ROOT/containers/ID.
// A container that shares another's network has that one's files, which lie
// beside its own.
func (b *bundle) containerDir(id string) string {
	for _, m := range b.mounts {
		switch m.Destination {
		case "/etc/resolv.conf", "/etc/hostname", "/etc/hosts":
			dir := filepath.Dir(m.Source)
			if filepath.Base(filepath.Dir(dir)) != "containers" || filepath.Base(m.Source) != filepath.Base(m.Destination) {
				continue // docker run -v SOMETHING:/etc/hosts
			}
			dir = filepath.Join(filepath.Dir(dir), id)
			if _, err := os.Stat(filepath.Join(dir, "config.v2.json")); err == nil {
				return dir
			}
		}
	}
	return ""
}

// newNetNS reports whether the container gets a network namespace of its own.
func (b *bundle) newNetNS() bool {
	return slices.ContainsFunc(b.namespaces, func(n namespace) bool { return n.Type == "network" && n.Path == "" })
}

// keysDir returns the folder where the engine mounts the network namespaces of
// containers. The engine's own hook knows its folder.
func (b *bundle) keysDir() string {
	for _, raw := range b.hooks["prestart"] {
		var h hook
		if json.Unmarshal(raw, &h) != nil {
			continue
		}
		for _, arg := range h.Args {
			if dir, ok := strings.CutPrefix(arg, "-exec-root="); ok {
				return filepath.Join(dir, "netns")
			}
		}
	}
	return "/var/run/docker/netns"
}

// add appends a hook to those of a stage.
func (b *bundle) add(stage string, h hook) error {
	raw, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if b.hooks == nil {
		b.hooks = map[string][]json.RawMessage{}
	}
	b.hooks[stage] = append(b.hooks[stage], raw)
	return nil
}

// write writes the bundle with its hooks, whole or not at all.
func (b *bundle) write() error {
	hooks, err := json.Marshal(b.hooks)
	if err != nil {
		return err
	}
	b.object["hooks"] = hooks
	data, err := json.Marshal(b.object)
	if err != nil {
		return err
	}
	return smallfile.Replace(b.path, data, b.mode)
}
