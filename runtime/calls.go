package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/plumb-cni/plumb/cni"
)

// calls are those of the plugins of a list about one attachment, with what is
// known of it from elsewhere: the cache, or a call to the list itself.
type calls struct {
	*Runtime
	list       *cni.List
	attachment Attachment
	args       string // CNI_ARGS
	override   bool   // of the rule that the sandbox isn't the host
	undo       bool   // an ADD that fails
}

// one calls one plugin. prev is the result of those before, or of an earlier ADD.
func (c *calls) one(ctx context.Context, verb cni.Verb, plugin *cni.Config, prev json.RawMessage) (*cni.Result, error) {
	req, err := c.request(verb, c.list, plugin, c.attachment, c.args, prev)
	if err != nil {
		return nil, err
	}
	req.NetNSOverride = c.override
	return c.invoke(ctx, c.list, plugin, req)
}

// add calls every plugin with the result of the one before, of the first prev. It
// stops at the first error.
func (c *calls) add(ctx context.Context, prev json.RawMessage) (*cni.Result, error) {
	var result *cni.Result
	for i, plugin := range c.list.Plugins {
		next, err := c.one(ctx, cni.VerbAdd, plugin, prev)
		made := i // plugins that don't know of a failure
		var encoded json.RawMessage
		if err == nil {
			made++
			encoded, err = c.encode(plugin, next)
		}
		if err != nil {
			if c.undo {
				err = errors.Join(err, c.del(context.WithoutCancel(ctx), c.list.Plugins[:made], prev))
			}
			return nil, err
		}
		result, prev = next, encoded
	}
	return result, nil
}

// encode returns a plugin's result as the next one is sent it. What can't be sent
// is invalid.
func (c *calls) encode(plugin *cni.Config, result *cni.Result) (json.RawMessage, error) {
	err := errors.New("no result")
	if result != nil {
		var encoded json.RawMessage
		if encoded, err = result.Encode(c.list.CNIVersion); err == nil {
			return encoded, nil
		}
		err = fmt.Errorf("invalid result: %w", err)
	}
	req := &cni.Request{Verb: cni.VerbAdd, ContainerID: c.attachment.ContainerID, IfName: c.attachment.IfName}
	return nil, c.failed(c.list, plugin, req, err)
}

// check calls every plugin, and stops at the first error.
func (c *calls) check(ctx context.Context, prev json.RawMessage) error {
	for _, plugin := range c.list.Plugins {
		if _, err := c.one(ctx, cni.VerbCheck, plugin, prev); err != nil {
			return err
		}
	}
	return nil
}

// del calls every one of some plugins, the last first, also when another fails,
// until the context ends.
func (c *calls) del(ctx context.Context, plugins []*cni.Config, prev json.RawMessage) error {
	wait := func() error { return nil }
	if chainer, ok := c.invoker().(Chainer); ok {
		ctx, wait = chainer.Chain(ctx)
	}
	var errs []error
	for i, plugin := range slices.Backward(plugins) {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("delete from network %q, container %q, interface %q: DEL of %s not called: %w",
				c.list.Name, c.attachment.ContainerID, c.attachment.IfName, types(plugins[:i+1]), context.Cause(ctx)))
			break
		}
		_, err := c.one(ctx, cni.VerbDel, plugin, prev)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, wait())...)
}

// collect calls every plugin of a list with GC. Unless told, plugins get nothing of
// what is valid.
func (r *Runtime) collect(ctx context.Context, list *cni.List, valid []cni.Attachment, told bool) error {
	extra := map[string]any{}
	if told {
		valid = append([]cni.Attachment{}, valid...) // encoded as a list, be it empty
		extra[keyValidAttachments], extra[keyAttachments] = valid, valid
	}
	var errs []error
	for _, plugin := range list.Plugins {
		errs = append(errs, r.network(ctx, cni.VerbGC, list, plugin, extra))
	}
	return errors.Join(errs...)
}

// status calls every plugin of a list with STATUS, and stops at the first error.
func (r *Runtime) status(ctx context.Context, list *cni.List) error {
	for _, plugin := range list.Plugins {
		if err := r.network(ctx, cni.VerbStatus, list, plugin, nil); err != nil {
			return err
		}
	}
	return nil
}
