package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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
	n := &nested{Runtime: r, call: call, outer: outer, list: list}
	if outer.RuntimeConfig != nil {
		if err := json.Unmarshal(outer.RuntimeConfig, &n.offered); err != nil {
			return nil, cni.Errorf(cni.CodeDecode, "network %q: decode runtimeConfig: %w", list.Name, err)
		}
	}
	switch call.Verb {
	case cni.VerbAdd:
		return n.add(ctx)
	case cni.VerbCheck:
		return nil, n.check(ctx)
	case cni.VerbDel:
		return nil, n.del(ctx, list.Plugins, outer.PrevResult)
	case cni.VerbGC:
		return nil, n.gc(ctx)
	case cni.VerbStatus:
		return nil, n.status(ctx)
	}
	return nil, cni.Errorf(cni.CodeInvalidEnvironment, "unknown CNI_COMMAND %q", call.Verb)
}

// nested is one call to a list within a plugin.
type nested struct {
	*Runtime
	call    *cni.Request
	outer   *cni.Config
	list    *cni.List
	offered map[string]any // capability arguments
}

// invokeOne calls one plugin about the attachment of the call.
func (n *nested) invokeOne(ctx context.Context, verb cni.Verb, plugin *cni.Config, prev *cni.Result) (*cni.Result, error) {
	a := Attachment{ContainerID: n.call.ContainerID, NetNS: n.call.NetNS, IfName: n.call.IfName, CapabilityArgs: n.offered}
	var encoded json.RawMessage
	if prev != nil {
		var err error
		if encoded, err = prev.Encode(n.list.CNIVersion); err != nil {
			return nil, n.failed(n.list, plugin, n.call, fmt.Errorf("invalid result: %w", err))
		}
	}
	req, err := n.request(verb, n.list, n.withArgs(plugin), a, n.call.Args, encoded)
	if err != nil {
		return nil, err
	}
	req.NetNSOverride = n.call.NetNSOverride
	return n.invoke(ctx, n.list, plugin, req)
}

// withArgs returns a plugin's configuration with the key args of the call.
func (n *nested) withArgs(plugin *cni.Config) *cni.Config {
	if n.outer.Args == nil || plugin.Args != nil {
		return plugin
	}
	raw, err := cni.Derive(plugin.Raw, map[string]any{"args": n.outer.Args})
	if err != nil {
		return plugin // which will be refused for what it is
	}
	with := *plugin
	with.Raw = raw
	return &with
}

func (n *nested) add(ctx context.Context) (*cni.Result, error) {
	result := n.outer.PrevResult
	for i, plugin := range n.list.Plugins {
		next, err := n.invokeOne(ctx, cni.VerbAdd, plugin, result)
		if err == nil && next == nil {
			err = n.failed(n.list, plugin, n.call, errors.New("no result"))
		}
		if err != nil {
			return nil, errors.Join(err, n.del(context.WithoutCancel(ctx), n.list.Plugins[:i], result))
		}
		result = next
	}
	return result, nil
}

func (n *nested) check(ctx context.Context) error {
	for _, plugin := range n.list.Plugins {
		if _, err := n.invokeOne(ctx, cni.VerbCheck, plugin, n.outer.PrevResult); err != nil {
			return err
		}
	}
	return nil
}

// del calls every one of some plugins, also when another fails.
func (n *nested) del(ctx context.Context, plugins []*cni.Config, prev *cni.Result) error {
	wait := func() error { return nil }
	if c, ok := n.invoker().(Chainer); ok {
		ctx, wait = c.Chain(ctx)
	}
	var errs []error
	for _, plugin := range slices.Backward(plugins) {
		_, err := n.invokeOne(ctx, cni.VerbDel, plugin, prev)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, wait())...)
}

func (n *nested) gc(ctx context.Context) error {
	extra := map[string]any{}
	if n.outer.HasValid {
		valid := append([]cni.Attachment{}, n.outer.Valid...) // encoded as a list, be it empty
		extra[keyValidAttachments], extra[keyAttachments] = valid, valid
	}
	var errs []error
	for _, plugin := range n.list.Plugins {
		errs = append(errs, n.network(ctx, cni.VerbGC, n.list, plugin, extra))
	}
	return errors.Join(errs...)
}

func (n *nested) status(ctx context.Context) error {
	for _, plugin := range n.list.Plugins {
		if err := n.network(ctx, cni.VerbStatus, n.list, plugin, nil); err != nil {
			return err
		}
	}
	return nil
}
