// Package tuning changes settings of a container's network and attributes of its
// interface, and gives back what they were.
package tuning

import (
	"cmp"
	"context"
	"net/netip"
	"path/filepath"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/sysctl"
)

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      "tuning",
		Validate:  validate,
		Desired:   desired,
		Observe:   observe,
		Footprint: footprint,
		Kinds:     []state.Kind{link.TunedKind{}, link.BackupKind{}, sysctl.Kind{}},
	})
}

// desired sets what is asked for, and no more.
func desired(_ context.Context, c *Config, r *plugin.Request, _ *cni.Result, _ state.Reader) (state.Plan, error) {
	if r.Config.PrevResult == nil {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "prevResult is missing: tuning changes the interface of another plugin; list it after that")
	}
	values, err := c.values(r.IfName)
	if err != nil {
		return nil, err
	}
	attributes, err := c.attributes(r)
	if err != nil {
		return nil, err
	}
	var plan state.Plan
	if values != nil {
		plan = append(plan, state.Own(sysctl.Settings{NS: state.Sandbox, Values: values}))
	}
	if !attributes.IsZero() {
		plan = append(plan, state.Own(link.Tuned{Link: r.IfName, Attributes: attributes, Backup: c.backup(r)}))
	}
	return plan, nil
}

// observe changes the interface's description in the result.
func observe(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, _ state.Reader) error {
	attributes, err := c.attributes(r)
	if err != nil {
		return err
	}
	for i := range result.Interfaces {
		described := &result.Interfaces[i]
		if described.Name != r.IfName || described.Sandbox == "" {
			continue
		}
		if attributes.MAC != nil {
			described.MAC = attributes.MAC.String()
		}
		if attributes.MTU != 0 && r.Config.CNIVersion.AtLeast(cni.V110) {
			described.MTU = uint(attributes.MTU)
		}
	}
	return nil
}

// backup is the file that the reference's ADD leaves.
func (c *Config) backup(r *plugin.Request) string {
	return filepath.Join(cmp.Or(c.DataDir, defaultDataDir), r.ContainerID+"_"+r.IfName+".json")
}

// footprint names that file.
func footprint(c *Config, r *plugin.Request, _ []netip.Addr) []state.Key {
	previous, _ := r.Previous()
	return []state.Key{link.BackupKey(c.backup(r), previous.MAC)}
}
