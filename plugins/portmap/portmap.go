// Package portmap leads ports of the host to ports of a container.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/portmap"
)

// A Config holds the keys of a portmap configuration.
type Config struct {
	_ struct{} `schema:"exclude=markMasqBit,externalSetMarkChain"`

	// Backend is "nftables" or "iptables". Empty is nftables, unless
	// ExternalSetMarkChain or conditions are of iptables, or the kernel has
	// no nftables.
	Backend portmap.Backend `json:"backend" schema:"enum=nftables|iptables"`

	// SNAT masquerades connections from the container's own subnet and from
	// the host's loopback addresses; unset is true.
	SNAT *bool `json:"snat"`

	// MasqAll masquerades all connections.
	MasqAll bool `json:"masqAll"`

	// MarkMasqBit is the bit of the mark, 0 to 31, that the iptables
	// backend uses; unset is 13.
	MarkMasqBit *int `json:"markMasqBit" schema:"min=0 max=31"`

	// ExternalSetMarkChain is somebody else's chain of iptables that marks
	// what is to be masqueraded.
	ExternalSetMarkChain *string `json:"externalSetMarkChain"`

	// ConditionsV4 and ConditionsV6 are matches that packets have to meet, in
	// the syntax of nft (see state/portmap.Compile) or of iptables.
	ConditionsV4 *[]string `json:"conditionsV4"`
	ConditionsV6 *[]string `json:"conditionsV6"`

	RuntimeConfig struct {
		PortMappings []Port `json:"portMappings"`
	} `json:"runtimeConfig"`
}

// A Port is one mapping as runtimes write it.
type Port struct {
	HostPort      int    `json:"hostPort" schema:"required min=1 max=65535"`
	ContainerPort int    `json:"containerPort" schema:"required min=1 max=65535"`
	Protocol      string `json:"protocol" schema:"is=protocol"`
	HostIP        string `json:"hostIP" schema:"is=address"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      "portmap",
		Validate:  validate,
		Desired:   desired,
		Footprint: footprint,
		Kinds:     []state.Kind{portmap.Kind{}},
		Ready:     ready,
	})
}

const maxMarkBit = 31

func validate(c *Config, r *plugin.Request) error {
	if r.Verb == cni.VerbAdd && r.Config.PrevResult == nil {
		return cni.Errorf(cni.CodeInvalidConfig, "prevResult is missing: portmap has to come after a plugin that makes an interface")
	}
	if c.MarkMasqBit != nil && c.ExternalSetMarkChain != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "markMasqBit and externalSetMarkChain exclude each other")
	}
	if bit := c.MarkMasqBit; bit != nil && (*bit < 0 || *bit > maxMarkBit) {
		return cni.Errorf(cni.CodeInvalidConfig, "markMasqBit %d: it is a bit of the mark, 0 to %d", *bit, maxMarkBit)
	}
	if chain := c.ExternalSetMarkChain; chain != nil && (*chain == "" || len(*chain) > maxChain || strings.ContainsAny(*chain, " \t\n\"'\\")) {
		return cni.Errorf(cni.CodeInvalidConfig, "externalSetMarkChain %q is no name of a chain", *chain)
	}
	for _, word := range slices.Concat(words(c.ConditionsV4), words(c.ConditionsV6)) {
		if strings.ContainsAny(word, "\n\r\x00") {
			return cni.Errorf(cni.CodeInvalidConfig, "conditions: %q has a line break", word)
		}
	}
	if _, err := c.backend(); err != nil {
		return err
	}
	mappings, err := c.mappings()
	if err != nil {
		return err
	}
	_, err = c.state(r.Owner, mappings, nil, false)
	return err
}

const maxChain = 28 // of iptables

func words(list *[]string) []string {
	if list == nil {
		return nil
	}
	return *list
}

// syntax returns the back end that conditions are written for, "" for none.
func syntax(conditions []string) portmap.Backend {
	switch {
	case len(conditions) == 0:
		return portmap.Auto
	case conditions[0] == "!" || strings.HasPrefix(conditions[0], "-"):
		return portmap.IPTables
	}
	return portmap.NFTables
}

// backend returns the back end that the configuration asks for.
func (c *Config) backend() (portmap.Backend, error) {
	asked := c.Backend
	if !slices.Contains([]portmap.Backend{portmap.Auto, portmap.NFTables, portmap.IPTables}, asked) {
		return "", cni.Errorf(cni.CodeInvalidConfig, "unknown backend %q: it is %q or %q", asked, portmap.NFTables, portmap.IPTables)
	}
	for _, need := range []struct {
		backend portmap.Backend
		by      string
	}{
		{syntax(words(c.ConditionsV4)), "the syntax of conditionsV4"},
		{syntax(words(c.ConditionsV6)), "the syntax of conditionsV6"},
		{c.marked(), "externalSetMarkChain"},
	} {
		if need.backend == portmap.Auto {
			continue
		}
		if asked != portmap.Auto && asked != need.backend {
			return "", cni.Errorf(cni.CodeInvalidConfig, "%s is of the %s backend, which contradicts %s, set or implied by other keys", need.by, need.backend, asked)
		}
		asked = need.backend
	}
	return asked, nil
}

func (c *Config) marked() portmap.Backend {
	if c.ExternalSetMarkChain != nil {
		return portmap.IPTables
	}
	return portmap.Auto
}

// mappings checks the list that the runtime gives.
func (c *Config) mappings() ([]portmap.Mapping, error) {
	var list []portmap.Mapping
	for _, p := range c.RuntimeConfig.PortMappings {
		m := portmap.Mapping{HostPort: uint16(p.HostPort), ContainerPort: uint16(p.ContainerPort)}
		if p.HostPort < 1 || p.HostPort > 65535 || p.ContainerPort < 1 || p.ContainerPort > 65535 {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "portMappings: hostPort %d to containerPort %d: ports are 1 to 65535", p.HostPort, p.ContainerPort)
		}
		var err error
		if m.Protocol, err = portmap.ParseProtocol(p.Protocol); err != nil {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "portMappings: hostPort %d: %w", p.HostPort, err)
		}
		if p.HostIP != "" {
			if m.HostAddr, err = netip.ParseAddr(p.HostIP); err != nil || m.HostAddr.Zone() != "" {
				return nil, cni.Errorf(cni.CodeInvalidConfig, "portMappings: hostPort %d: hostIP %q is no IP address", p.HostPort, p.HostIP)
			}
		}
		list = append(list, m)
	}
	return list, nil
}

// state returns what is mapped to addresses.
func (c *Config) state(o state.Owner, mappings []portmap.Mapping, addrs []netip.Prefix, loopback6 bool) (portmap.Portmap, error) {
	backend, err := c.backend()
	if err != nil {
		return portmap.Portmap{}, err
	}
	options := portmap.Options{
		Backend: backend,
		SNAT:    c.SNAT == nil || *c.SNAT,
		MasqAll: c.MasqAll,
		MarkBit: portmap.DefaultMarkBit,

		Loopback6: loopback6,

		Conditions4: words(c.ConditionsV4), Conditions6: words(c.ConditionsV6),
	}
	if c.MarkMasqBit != nil {
		options.MarkBit = *c.MarkMasqBit
	}
	if c.ExternalSetMarkChain != nil {
		options.SetChain = *c.ExternalSetMarkChain
	}
	return portmap.New(o, mappings, addrs, options)
}

// desired maps to the first address of each family of the interface that
// CNI_IFNAME names.
func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	mappings, err := c.mappings()
	if err != nil {
		return nil, err
	}
	addrs := addresses(r, result)
	p, err := c.state(r.Owner, mappings, addrs, false)
	if err != nil || p.Empty() {
		return nil, err
	}
	var after state.Plan
	if to, ok := p.Container(nftconn.IPv6); ok && p.SNAT {
		link, why, err := behind6(rd, result, to)
		if err != nil {
			return nil, err
		}
		if why != "" && p.FromLoopback(nftconn.IPv6) {
			return nil, cni.Errorf(cni.CodeUnsupportedField, "portMappings: hostIP ::1 can't be served: %s", why)
		}
		if p, err = c.state(r.Owner, mappings, addrs, why == ""); err != nil {
			return nil, err
		}
		if p.FromLoopback(nftconn.IPv6) {
			after = append(after, state.Share(portmap.Loopback{Link: link, For: p}))
		}
	}
	if to, ok := p.Container(nftconn.IPv4); ok && p.FromLoopback(nftconn.IPv4) {
		link, err := towards(rd, result, to)
		if err != nil {
			return nil, err
		}
		if link != nil {
			after = append(after, state.Share(portmap.Localnet{Link: link.Name, Stay: link.Kind != "veth", For: p}))
		}
	}
	return append(state.Plan{state.Own(p)}, after...), nil
}

// behind6 returns the host's interface behind which a container's IPv6 address
// is, and why connections to ::1 can't be served, if they can't.
func behind6(rd state.Reader, result *cni.Result, to netip.Addr) (name, why string, err error) {
	link, err := towards(rd, result, to)
	if err != nil {
		return "", "", err
	}
	if link == nil {
		return "", fmt.Sprintf("the host has no interface towards the container's address %s", to), nil
	}
	if link.Kind != "bridge" {
		return link.Name, "", nil
	}
	filtered, err := portmap.BridgeFilter6(rd)
	if filtered {
		why = fmt.Sprintf("what bridge %s receives passes the packet filter before it is routed (net.bridge.bridge-nf-call-ip6tables), and then the kernel drops what is for ::1", link.Name)
	}
	return link.Name, why, err
}

// addresses returns those of a result that are of the container's interface.
func addresses(r *plugin.Request, result *cni.Result) (addrs []netip.Prefix) {
	for _, ip := range result.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(result.Interfaces) {
			if in := result.Interfaces[*i]; in.Name != r.IfName || in.Sandbox == "" {
				continue
			}
		}
		addrs = append(addrs, ip.Address)
	}
	return addrs
}

// towards returns the host's interface behind which a container is, nil if the
// host does not reach it by one that was made for containers: by way of a
// router, or, as with macvlan, by its own uplink.
func towards(rd state.Reader, result *cni.Result, to netip.Addr) (*rtnl.Link, error) {
	conn, err := rd.Route(state.Host)
	if err != nil {
		return nil, err
	}
	route, err := conn.RouteTo(to)
	if errors.Is(err, rtnl.ErrNotFound) || err == nil && (route.Local || route.Gateway.IsValid()) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	link, err := conn.LinkByIndex(route.Index)
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	known := len(result.Interfaces) > 0 // results of old versions list none
	if known && !slices.ContainsFunc(result.Interfaces, func(i cni.Interface) bool { return i.Sandbox == "" && i.Name == link.Name }) {
		return nil, nil
	}
	return link, nil
}

func footprint(_ *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
	return []state.Key{portmap.Key(r.Owner, addrs...)}
}

func ready(ctx context.Context, c *Config, r *plugin.Request, rd state.Reader) error {
	p, err := c.state(r.Owner, nil, nil, false)
	if err == nil {
		err = portmap.Available(ctx, rd, p.Options)
	}
	if err != nil {
		return cni.Errorf(cni.CodeUnavailable, "map ports: %w", err)
	}
	return nil
}
