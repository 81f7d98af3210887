// Command somaxconn is a chained plugin: it sets how many connections a
// listener in the container may have waiting.
package main

import (
	"context"
	"strconv"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/protocol"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/sysctl"
)

// A config holds the plugin's own keys; those of the specification are in
// plugin.Request.
type config struct {
	Backlog int `json:"backlog"`
}

func validate(c *config, _ *plugin.Request) error {
	if c.Backlog < 1 {
		return cni.Errorf(cni.CodeInvalidConfig, "backlog %d: it has to be 1 or more", c.Backlog)
	}
	return nil
}

// desired is all there is to it. ADD makes this state, and undoes it if it
// fails; CHECK compares it with what is there; it goes with the container.
func desired(_ context.Context, c *config, r *plugin.Request, _ *cni.Result, _ state.Reader) (state.Plan, error) {
	return state.Plan{
		state.On(link.SandboxKey(r.IfName), sysctl.Settings{
			NS:     state.Sandbox,
			Values: []sysctl.Setting{{Name: "core/somaxconn", Value: strconv.Itoa(c.Backlog)}},
		}),
	}, nil
}

func main() {
	p := plugin.New(plugin.Def[config]{Name: "somaxconn", Validate: validate, Desired: desired})
	protocol.Main(p.In(new(plugin.Host)), "v1.0.0", nil)
}
