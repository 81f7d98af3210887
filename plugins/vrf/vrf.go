// Package vrf puts a container's interface into a VRF, a router of its own within
// the container.
package vrf

import (
	"context"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/vrf"
)

// A Config holds the keys of a vrf configuration.
type Config struct {
	// VRFName is the name of the VRF device in the container.
	VRFName string `json:"vrfname" schema:"is=interface"`

	// Table is the number of its routing table; 0 takes one that is free.
	Table uint32 `json:"table"`

	Args struct {
		CNI struct {
			VRFName string `json:"vrfname" schema:"is=interface"` // comes before VRFName
			Table   uint32 `json:"table"`                         // comes before Table
		} `json:"cni"`
	} `json:"args"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      "vrf",
		Validate:  validate,
		Desired:   desired,
		Footprint: footprint,
		Kinds:     []state.Kind{vrf.Kind{}},
		Ready: func(_ context.Context, _ *Config, _ *plugin.Request, rd state.Reader) error {
			return link.Available(rd, "vrf")
		},
	})
}

func (c *Config) name() string {
	if c.Args.CNI.VRFName != "" {
		return c.Args.CNI.VRFName
	}
	return c.VRFName
}

func (c *Config) table() int {
	if c.Args.CNI.Table != 0 {
		return int(c.Args.CNI.Table)
	}
	return int(c.Table)
}

func validate(c *Config, r *plugin.Request) error {
	if err := c.checkName(r.IfName); err != nil {
		return err
	}
	if r.Verb == cni.VerbAdd && r.Config.PrevResult == nil {
		return cni.Errorf(cni.CodeInvalidConfig, "there is no prevResult; vrf has to come after the plugin that makes the interface")
	}
	return nil
}

// checkName refuses what no VRF beside an interface can be called.
func (c *Config) checkName(ifName string) error {
	if c.name() == "" {
		return cni.Errorf(cni.CodeInvalidConfig, "vrfname is missing: the name of the VRF in the container")
	}
	if err := cni.ValidateIfName(c.name()); err != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "vrfname %q is not a name for an interface: 1 to 15 bytes without slash, colon and space", c.name())
	}
	if c.name() == "all" || c.name() == "default" {
		return cni.Errorf(cni.CodeInvalidConfig, "vrfname %q stands for every interface in the kernel's settings; choose another", c.name())
	}
	if c.name() == ifName {
		return cni.Errorf(cni.CodeInvalidConfig, "vrfname %q is the name of the container's interface; choose another", c.name())
	}
	return nil
}

func desired(_ context.Context, c *Config, r *plugin.Request, _ *cni.Result, _ state.Reader) (state.Plan, error) {
	return state.Plan{state.Own(vrf.Member{Link: r.IfName, VRF: c.name(), Table: c.table()})}, nil
}

// footprint is nothing where nothing tells the container's interface from
// another's: the path may lead to another container's sandbox by now. Nor is
// there anything of a name that ADD has refused, which the kernel may not even
// take for a question.
func footprint(c *Config, r *plugin.Request, _ []netip.Addr) []state.Key {
	previous, _ := r.Previous()
	if c.checkName(r.IfName) != nil || previous.MAC == "" {
		return nil
	}
	return []state.Key{vrf.FootprintKey(r.IfName, c.name(), previous.MAC)}
}
