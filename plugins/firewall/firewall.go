// Package firewall lets a container's traffic pass the host's packet filter,
// and closes bridges to each other.
package firewall

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/firewall"
	"github.com/plumb-cni/plumb/state/link"
)

// A Config holds the keys of a firewall configuration.
type Config struct {
	// Backend is "firewalld", "iptables" or "nftables"; empty takes the
	// first of these that is there.
	Backend string `json:"backend" schema:"enum=firewalld|iptables|nftables"`

	// IPTablesAdminChainName is a chain of the user's whose rules come before
	// those for containers; empty means CNI-ADMIN.
	IPTablesAdminChainName string `json:"iptablesAdminChainName" schema:"is=word max=28"`

	// FirewalldZone is the zone that addresses become sources of; empty means
	// trusted.
	FirewalldZone string `json:"firewalldZone" schema:"is=word"`

	// IngressPolicy is "open", "same-bridge" or "isolated"; empty means open.
	IngressPolicy string `json:"ingressPolicy" schema:"enum=open|same-bridge|isolated"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      "firewall",
		Validate:  validate,
		Desired:   desired,
		Footprint: footprint,
		Kinds:     []state.Kind{firewall.Kind{}},
		Ready:     ready,
	})
}

// maxChainName is XT_EXTENSION_MAXNAMELEN without the NUL.
const maxChainName = 28

func validate(c *Config, r *plugin.Request) error {
	if _, err := firewall.ParseBackend(c.Backend); err != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "%w", err)
	}
	if _, err := firewall.ParsePolicy(c.IngressPolicy); err != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "ingressPolicy: %w", err)
	}
	if name := c.IPTablesAdminChainName; !isName(name, maxChainName) {
		return cni.Errorf(cni.CodeInvalidConfig, "iptablesAdminChainName %q is no name of a chain: it has up to %d letters, digits and -_.", name, maxChainName)
	}
	if name := c.IPTablesAdminChainName; firewall.Reserved(name) {
		return cni.Errorf(cni.CodeInvalidConfig, "iptablesAdminChainName %q is a chain of the plugin's or of iptables itself", name).
			WithDetails("name one of your own, or leave the key out for " + firewall.DefaultAdminChain)
	}
	if name := c.FirewalldZone; !isName(name, len(name)) {
		return cni.Errorf(cni.CodeInvalidConfig, "firewalldZone %q is no name of a zone: it has letters, digits and -_.", name)
	}
	if r.Verb == cni.VerbAdd && r.Config.PrevResult == nil {
		return cni.Errorf(cni.CodeInvalidConfig, "prevResult is missing: firewall admits the addresses that a plugin before it in the list has given; put it after one, such as bridge")
	}
	return nil
}

// isName tells whether a name needs no quoting anywhere. Unset is a name.
func isName(name string, max int) bool {
	return len(name) <= max && !strings.HasPrefix(name, "-") && !strings.ContainsFunc(name, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c))
	})
}

func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	backend := firewall.Backend(c.Backend)
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.Addr().Unmap())
	}
	var plan state.Plan
	if addrs != nil {
		plan = append(plan, state.Own(firewall.Admission{
			Owner: r.Owner, Addresses: addrs, Backend: backend, AdminChain: c.IPTablesAdminChainName, Zone: zone(c),
		}))
	}
	policy, err := firewall.ParsePolicy(c.IngressPolicy)
	if err != nil || policy == firewall.Open {
		return plan, err
	}
	first := slices.IndexFunc(result.Interfaces, func(i cni.Interface) bool { return i.Sandbox == "" })
	if first < 0 {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "ingressPolicy %s: prevResult names no bridge to close; put firewall after plugin bridge in the list", policy)
	}
	bridge := result.Interfaces[first].Name
	// First, so that no packet passes in between.
	plan = append(state.Plan{state.Share(firewall.Isolation{Bridge: bridge, Policy: policy, Backend: backend, Addresses: addrs})}, plan...)
	if policy == firewall.SameBridge {
		return plan, nil
	}
	// The reference leaves a bridge to its packet filter, which frames within the
	// bridge don't pass.
	ports, err := portsOf(bridge, result, rd)
	for _, port := range ports {
		plan = append(plan, state.On(link.Key(port), state.Beyond(link.Isolated{Port: port})))
	}
	return plan, err
}

// portsOf returns the interfaces of a result that are ports of a bridge.
func portsOf(bridge string, result *cni.Result, rd state.Reader) (ports []string, err error) {
	conn, err := rd.Route(state.Host)
	if err != nil {
		return nil, err
	}
	br, err := conn.Known(bridge)
	if err != nil {
		return nil, err
	}
	for _, i := range result.Interfaces {
		if i.Sandbox != "" || i.Name == bridge {
			continue
		}
		port, err := conn.Known(i.Name)
		if err != nil {
			return nil, err
		}
		if port.Master == br.Index {
			ports = append(ports, i.Name)
		}
	}
	return ports, nil
}

// zone returns the zone of firewalld that addresses are put into where it is
// the back end.
func zone(c *Config) string {
	if c.FirewalldZone != "" {
		return c.FirewalldZone
	}
	return firewall.DefaultZone
}

func footprint(c *Config, r *plugin.Request, addrs []netip.Addr) []state.Key {
	in := zone(c)
	if b := firewall.Backend(c.Backend); b != firewall.Auto && b != firewall.Firewalld {
		in = ""
	}
	return []state.Key{firewall.Key(r.Owner, in, addrs...)}
}

func ready(ctx context.Context, c *Config, _ *plugin.Request, r state.Reader) error {
	return firewall.Available(ctx, r, firewall.Backend(c.Backend))
}
