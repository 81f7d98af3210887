package runtime

import (
	"context"
	"encoding/json"

	"github.com/plumb-cni/plumb/cni"
)

// Nested serves a call to a plugin whose configuration holds a list of plugins
// itself, under the key plugins: it calls those as Add, Check, Del, GC and Status
// call the plugins of a network. The result is that of the last plugin, nil for
// verbs that have none.
//
// The cache is the caller's, which remembers the result of the whole: what the
// plugins are told of an earlier ADD comes with the call. So do the capability
// arguments, of which each plugin gets those that it declares, and the key args,
// which each plugin gets that has none of its own.
//
// When a plugin fails to ADD, having undone what it did itself, those before it are
// called with DEL, so that the whole leaves nothing either. Errors wrap
// *PluginError when a plugin failed, and are those of [cni.ParseList] and
// [cni.ParseConfig] for a configuration that can't be used.
func (r *Runtime) Nested(ctx context.Context, call *cni.Request) (*cni.Result, error) {
	outer, err := cni.ParseConfig(call.Config)
	if err != nil {
		return nil, err
	}
	list, err := cni.ParseList(call.Config)
	if err != nil {
		return nil, err
	}
	if list.Single || len(list.Plugins) == 0 {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "network %q: no plugins within the plugin", list.Name)
	}
	c := &calls{Runtime: r, list: list, args: call.Args, override: call.NetNSOverride, undo: true,
		attachment: Attachment{ContainerID: call.ContainerID, NetNS: call.NetNS, IfName: call.IfName}}
	if outer.RuntimeConfig != nil {
		if err := json.Unmarshal(outer.RuntimeConfig, &c.attachment.CapabilityArgs); err != nil {
			return nil, cni.Errorf(cni.CodeDecode, "network %q: decode runtimeConfig: %w", list.Name, err)
		}
	}
	for i, plugin := range list.Plugins {
		list.Plugins[i] = withArgs(plugin, outer.Args)
	}
	var prev json.RawMessage
	if outer.PrevResult != nil {
		if prev, err = outer.PrevResult.Encode(list.CNIVersion); err != nil {
			return nil, cni.Errorf(cni.CodeDecode, "network %q: prevResult: %w", list.Name, err)
		}
	}
	switch call.Verb {
	case cni.VerbAdd:
		return c.add(ctx, prev)
	case cni.VerbCheck:
		return nil, c.check(ctx, prev)
	case cni.VerbDel:
		return nil, c.del(ctx, list.Plugins, prev)
	case cni.VerbGC:
		return nil, r.collect(ctx, list, outer.Valid, outer.HasValid)
	case cni.VerbStatus:
		return nil, r.status(ctx, list)
	}
	return nil, cni.Errorf(cni.CodeInvalidEnvironment, "unknown CNI_COMMAND %q", call.Verb)
}

// withArgs returns a plugin's configuration with the key args of the call.
func withArgs(plugin *cni.Config, args json.RawMessage) *cni.Config {
	if args == nil || plugin.Args != nil {
		return plugin
	}
	raw, err := cni.Derive(plugin.Raw, map[string]any{"args": args})
	if err != nil {
		return plugin // which will be refused for what it is
	}
	with := *plugin
	with.Raw = raw
	return &with
}
