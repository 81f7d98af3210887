package inprocess

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/stack"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/state"
)

// A call is one request to a plugin of ours.
type call struct {
	plugin plugin.Plugin
	req    cni.Request

	done   chan struct{} // closed once the rest is set
	result *cni.Result
	err    error
	stderr bytes.Buffer
}

// serve serves the call on a goroutine of its own: a plugin that panics, and a
// thread that could not leave a container's namespace, or the host's that is not
// its own, take no more than that with them. It ends a use of the machine.
func (c *call) serve(ctx context.Context, m *state.Machine, h *plugin.Host) {
	stack.MakeRoom()
	defer close(c.done)
	defer func() {
		if p := recover(); p != nil { // of the thread's way back: a plugin's is caught before
			fmt.Fprintf(&c.stderr, "%s %s: panic: %v\n%s", c.plugin.Name(), c.req.Verb, p, debug.Stack())
			c.result, c.err = nil, cni.Errorf(cni.CodeInternal, "%s %s: panic: %v", c.plugin.Name(), c.req.Verb, p)
		}
		if err := m.Leave(); c.err == nil {
			c.err = err
		}
	}()
	c.err = cni.Errorf(cni.CodeInternal, "%s %s: the plugin has ended its goroutine", c.plugin.Name(), c.req.Verb)
	err := m.Run(func(hostNS string) {
		c.result, c.err = protocol.Answer(ctx, c.plugin.In(h), &c.req, hostNS, &c.stderr)
	})
	if err != nil {
		c.err = err
	}
}

// stderrTail is how much of what a plugin has to say is in its error.
const stderrTail = 2 << 10

// failure is the error of the call.
func (c *call) failure() error { return failure(c.plugin.Name(), &c.req, c.stderr.Bytes(), c.err) }

// failure is the error of a call in the shape of an executed plugin's, with what
// it said beside.
func failure(plugin string, req *cni.Request, said []byte, err error) error {
	config, _ := cni.Identify(req.Config) // the plugin has complained
	return &runtime.PluginError{
		Plugin: plugin, Verb: req.Verb, Network: config.Name,
		ContainerID: req.ContainerID, IfName: req.IfName,
		Stderr: strings.ToValidUTF8(string(bytes.TrimSpace(said[max(0, len(said)-stderrTail):])), "�"),
		Err:    err,
	}
}
