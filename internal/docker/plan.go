package docker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// Capabilities that networks may declare (CONVENTIONS.md).
const (
	capPorts   = "portMappings"
	capIPs     = "ips"
	capMAC     = "mac"
	capDNS     = "dns"
	capAliases = "aliases"
)

// planned is an attachment that is about to be made.
type planned struct {
	record *Record
	list   *cni.List
}

// plan loads the networks of all attachments before the first is made, and
// gives the published ports to the first network that can publish.
func (a *Attacher) plan(c *Container, wants []Want, again []*Record) ([]planned, error) {
	var plan []planned
	for _, w := range wants {
		plan = append(plan, planned{record: &Record{Root: c.Root, ContainerID: c.ID, Name: c.Name, Want: w}})
	}
	for _, r := range again {
		r.Name, r.restarted = c.Name, true
		plan = append(plan, planned{record: r})
	}
	for i := range plan {
		var err error
		if plan[i].list, err = cni.FindList(a.NetDir, plan[i].record.Network); err != nil {
			return nil, fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	if len(wants) == 0 || len(wants[0].Ports) == 0 {
		return plan, nil
	}
	ports := plan[0].record.Ports
	plan[0].record.Ports = nil
	able := slices.IndexFunc(plan[:len(wants)], func(p planned) bool { return declares(p.list, capPorts) })
	if able < 0 {
		return nil, fmt.Errorf("container %s publishes ports, and none of its networks can: no plugin declares the capability %s", c.Name, capPorts)
	}
	plan[able].record.Ports = ports
	return plan, nil
}

// declares reports whether a plugin of the network wants a capability argument.
func declares(list *cni.List, capability string) bool {
	return slices.ContainsFunc(list.Plugins, func(p *cni.Config) bool { return p.Capabilities[capability] })
}

// arguments returns what plugins are told of the container, as podman does: its
// name, and what is wanted as a capability argument or, where no plugin takes
// that, in CNI_ARGS.
func arguments(c *Container, w Want, list *cni.List) (args [][2]string, capabilities map[string]any) {
	args = [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", c.Name}}
	capabilities = map[string]any{}
	if len(w.IPs) > 0 {
		if declares(list, capIPs) {
			capabilities[capIPs] = w.IPs
		} else {
			args = append(args, [2]string{"IP", strings.Join(w.IPs, ",")})
		}
	}
	if w.MAC != "" {
		if declares(list, capMAC) {
			capabilities[capMAC] = w.MAC
		} else {
			args = append(args, [2]string{"MAC", w.MAC})
		}
	}
	if len(w.Ports) > 0 {
		capabilities[capPorts] = w.Ports
	}
	if !c.DNS.IsZero() {
		capabilities[capDNS] = map[string]any{"servers": c.DNS.Nameservers, "searches": c.DNS.Search, "options": c.DNS.Options}
	}
	aliases := []string{short(c.ID)}
	if c.Hostname != "" && c.Hostname != c.Name && c.Hostname != aliases[0] {
		aliases = append(aliases, c.Hostname)
	}
	capabilities[capAliases] = map[string][]string{w.Network: aliases}
	return args, capabilities
}

// whole returns a network's configuration with all of its plugins, those from
// other files too.
func whole(list *cni.List) ([]byte, error) {
	if list.Single {
		return list.Raw, nil
	}
	plugins := make([]json.RawMessage, len(list.Plugins))
	for i, p := range list.Plugins {
		plugins[i] = p.Raw
	}
	return cni.Derive(list.Raw, map[string]any{"plugins": plugins, "loadOnlyInlinedPlugins": true})
}
