package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// The keys that tell plugins on GC what is still valid. The specification's
// text has had both names.
const (
	keyValidAttachments = "cni.dev/valid-attachments"
	keyAttachments      = "cni.dev/attachments"
)

// request derives what one plugin is sent for an attachment (SPEC section 3,
// "Deriving request configuration from plugin configuration").
func (r *Runtime) request(verb cni.Verb, list *cni.List, plugin *cni.Config, a Attachment, args string, prev json.RawMessage) (*cni.Request, error) {
	req := &cni.Request{
		Verb: verb, ContainerID: a.ContainerID, NetNS: a.NetNS, IfName: a.IfName,
		Args: args, Path: r.Path,
	}
	set := map[string]any{"name": list.Name, "cniVersion": list.CNIVersion}
	if prev != nil {
		set["prevResult"] = prev
	}
	offered := map[string]any{}
	for name, ok := range plugin.Capabilities {
		if value, given := a.CapabilityArgs[name]; ok && given {
			offered[name] = value
		}
	}
	if len(offered) > 0 {
		set["runtimeConfig"] = offered
	}
	drop := []string{keyValidAttachments, keyAttachments}
	if !r.PassCapabilities {
		drop = append(drop, "capabilities")
	}
	config, err := cni.Derive(plugin.Raw, set, drop...)
	if err != nil {
		return nil, r.failed(list, plugin, req, fmt.Errorf("derive request: %w", err))
	}
	req.Config = config
	return req, nil
}

// network calls one plugin with a verb that has no attachment.
func (r *Runtime) network(ctx context.Context, verb cni.Verb, list *cni.List, plugin *cni.Config, extra map[string]any) error {
	req := &cni.Request{Verb: verb, Path: r.Path}
	set := map[string]any{"name": list.Name, "cniVersion": list.CNIVersion}
	maps.Copy(set, extra)
	var drop []string
	if len(extra) == 0 {
		// A configuration that brings these keys would have a plugin remove
		// what the caller never called invalid.
		drop = []string{keyValidAttachments, keyAttachments}
	}
	var err error
	if req.Config, err = cni.Derive(plugin.Raw, set, drop...); err != nil {
		return r.failed(list, plugin, req, fmt.Errorf("derive request: %w", err))
	}
	_, err = r.invoke(ctx, list, plugin, req)
	return err
}

// joinArgs returns CNI_ARGS: "KEY=value;KEY=value".
func joinArgs(args [][2]string) (string, error) {
	pairs := make([]string, len(args))
	for i, kv := range args {
		if kv[0] == "" || strings.ContainsAny(kv[0], "=;") || strings.Contains(kv[1], ";") {
			return "", cni.Errorf(cni.CodeInvalidEnvironment, "argument %q with value %q cannot be passed in CNI_ARGS", kv[0], kv[1])
		}
		pairs[i] = kv[0] + "=" + kv[1]
	}
	return strings.Join(pairs, ";"), nil
}

// invoke calls a plugin and sees to it that an error names the call.
func (r *Runtime) invoke(ctx context.Context, list *cni.List, plugin *cni.Config, req *cni.Request) (*cni.Result, error) {
	result, err := r.invoker().Invoke(ctx, plugin.Type, req)
	if err != nil {
		return nil, r.failed(list, plugin, req, err)
	}
	return result, nil
}

func (r *Runtime) failed(list *cni.List, plugin *cni.Config, req *cni.Request, err error) error {
	if _, named := err.(*PluginError); named {
		return err
	}
	return &PluginError{
		Plugin: plugin.Type, Verb: req.Verb, Network: list.Name,
		ContainerID: req.ContainerID, IfName: req.IfName, Err: err,
	}
}
