// Package fused runs a whole list as one plugin of the type plumb, so that a
// runtime which can only execute plugins starts one process in the place of one
// for each.
//
// The plugin's configuration holds the list:
//
//	{"type": "plumb", "capabilities": {...}, "plugins": [{"type": "bridge", ...}, ...]}
package fused

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
)

// Name is the type of the plugin that is a list.
const Name = "plumb"

// A List serves the calls of the plugin. It is a protocol.Handler.
type List struct{ Invoker runtime.Invoker }

// Name is Name.
func (List) Name() string { return Name }

// Versions returns all versions of the protocol.
func (List) Versions() []cni.Version { return cni.Versions() }

// Handle calls the plugins of the list.
func (l List) Handle(ctx context.Context, call *cni.Request) (*cni.Result, error) {
	result, err := (&runtime.Runtime{Path: call.Path, Invoker: l.Invoker}).Nested(ctx, call)
	return result, answer(err)
}

// answer is an error as the caller would have had it from the plugin at fault,
// whose details say which that is.
func answer(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, err := range joined.Unwrap() {
			errs = append(errs, answer(err))
		}
		return errors.Join(errs...)
	}
	failed, ok := errors.AsType[*runtime.PluginError](err)
	if !ok {
		return err
	}
	said, ok := errors.AsType[*cni.Error](failed.Err)
	if !ok {
		return err
	}
	if by := "plugin " + failed.Plugin; !strings.Contains(said.Details, by) {
		return said.WithDetails(strings.TrimSpace(said.Details + " (" + by + ")"))
	}
	return said
}

// Fuse returns the configuration of a list with all of its plugins in one. What
// they declare as their capabilities the one declares too, so that the caller
// offers it what is theirs. Keys that the list has beside its plugins stay.
//
// It fails with cni.CodeInvalidConfig for a list that is fused or that is of a
// single plugin's form, and as [cni.ParseList] does.
func Fuse(raw []byte) ([]byte, error) {
	list, err := inlined(raw)
	if err != nil {
		return nil, err
	}
	capabilities := map[string]bool{}
	plugins := make([]json.RawMessage, len(list.Plugins))
	for i, p := range list.Plugins {
		if p.Type == Name {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "network %q is fused already", list.Name)
		}
		for capability, declared := range p.Capabilities {
			if declared {
				capabilities[capability] = true
			}
		}
		plugins[i] = p.Raw
	}
	one := map[string]any{"plugins": plugins}
	if len(capabilities) > 0 {
		one["capabilities"] = capabilities
	}
	fused, err := cni.Derive(json.RawMessage(`{"type":"`+Name+`"}`), one)
	if err != nil {
		return nil, err
	}
	return cni.Derive(raw, map[string]any{"plugins": []json.RawMessage{fused}})
}

// Unfuse takes back what Fuse did.
func Unfuse(raw []byte) ([]byte, error) {
	list, err := inlined(raw)
	if err != nil {
		return nil, err
	}
	var plugins []json.RawMessage
	fused := false
	for _, p := range list.Plugins {
		if p.Type != Name {
			plugins = append(plugins, p.Raw)
			continue
		}
		fused = true
		var one struct {
			Plugins []json.RawMessage `json:"plugins"`
		}
		if err := json.Unmarshal(p.Raw, &one); err != nil {
			return nil, cni.Errorf(cni.CodeDecode, "network %q: decode the plugin %s: %w", list.Name, Name, err)
		}
		plugins = append(plugins, one.Plugins...)
	}
	if !fused {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "network %q is not fused", list.Name)
	}
	return cni.Derive(raw, map[string]any{"plugins": plugins})
}

// inlined parses a list with the plugins that stand in it.
func inlined(raw []byte) (*cni.List, error) {
	list, err := cni.ParseList(raw)
	if err != nil {
		return nil, err
	}
	if list.Single || len(list.Plugins) == 0 {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "network %q has no list of plugins", list.Name)
	}
	return list, nil
}
