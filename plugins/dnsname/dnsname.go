// Package dnsname has the containers of a network find each other by name.
//
// It stands for the plugin of that name from github.com/containers/dnsname,
// which podman puts into its lists. The names are answered by the resolver of
// the host (package resolver), not by dnsmasq.
package dnsname

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/dnsname"
)

// Name is the plugin's. A runtime that finds a plugin of this name may put it
// into every list, so it is installed on request only.
const Name = "dnsname"

// A Config holds the keys of a dnsname configuration.
type Config struct {
	// DomainName is what the full names of the network's containers end in.
	DomainName string `json:"domainName" schema:"required"`

	// MultiDomain also resolves full names of containers of other networks of
	// the host whose configuration says so too.
	MultiDomain bool `json:"multiDomain"`

	// RemoteServers are asked for other names, in the place of the host's
	// servers: an address each, with a port after "#" if it is not 53.
	RemoteServers []string `json:"remoteServers"`

	RuntimeConfig struct {
		// Aliases are further names of the container, by network.
		Aliases map[string][]string `json:"aliases"`
	} `json:"runtimeConfig"`
}

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      Name,
		Validate:  validate,
		Desired:   desired,
		Observe:   observe,
		Footprint: footprint,
		Kinds:     []state.Kind{dnsname.Kind{}},
		Ready:     ready,
	})
}

func validate(c *Config, r *plugin.Request) error {
	if r.Verb == cni.VerbAdd && r.Config.PrevResult == nil {
		return cni.Errorf(cni.CodeInvalidConfig, "prevResult is missing: dnsname names the addresses that a plugin before it in the list has given; put it after one, such as bridge")
	}
	if c.domain() == "" {
		return cni.Errorf(cni.CodeInvalidConfig, "domainName is missing, which full names of the network's containers end in; podman's is dns.podman")
	}
	if !isName(c.domain()) {
		return cni.Errorf(cni.CodeInvalidConfig, "domainName %q is no name of a domain: it has parts of 1 to 63 letters, digits, - and _, with dots between them", c.DomainName)
	}
	_, err := c.remote()
	return err
}

// domain returns the domain as entries have it.
func (c *Config) domain() string { return strings.ToLower(strings.Trim(c.DomainName, ".")) }

// remote returns the servers for other names.
func (c *Config) remote() (servers []netip.AddrPort, err error) {
	for _, s := range c.RemoteServers {
		host, port, found := strings.Cut(s, "#")
		if !found {
			port = strconv.Itoa(dnsname.Port)
		}
		server, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
		if err != nil {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "remoteServers: %q is no server: it is an address, with #PORT after it if that is not %d", s, dnsname.Port)
		}
		servers = append(servers, server)
	}
	return servers, nil
}

// Limits of names (RFC 1035 section 2.3.4), as written with dots.
const (
	maxLabel = 63
	maxName  = 253
)

// isName tells whether DNS can carry a name, and programs take it for one.
func isName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
		}) {
			return false
		}
	}
	return true
}

// shortID is how much of a container's ID podman and Docker show, and have as a
// name.
const shortID = 12

// names returns the container's names: that which the runtime gives it, and its
// aliases. Those that DNS can't carry are left out, since the container is to
// start all the same. It always has one: at last its ID.
func (c *Config) names(r *plugin.Request) (names []string) {
	pod, _ := r.Args.Get("K8S_POD_NAME")
	for _, name := range append([]string{pod}, c.RuntimeConfig.Aliases[r.Config.Name]...) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if isName(name) && isName(name+"."+c.domain()) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if names == nil {
		names = append(names, strings.ToLower(r.ContainerID[:min(shortID, len(r.ContainerID))]))
	}
	return names
}

func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	own := r.Own(result)
	if len(own.IPs) == 0 {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "prevResult gives interface %s no address that a name could lead to; give the network an IPAM plugin, or take dnsname off the list", r.IfName)
	}
	remote, err := c.remote()
	if err != nil {
		return nil, err
	}
	entry := dnsname.Entry{
		Owner: r.Owner, Names: c.names(r), Domain: c.domain(),
		Remote: remote, MultiDomain: c.MultiDomain,
	}
	for _, ip := range own.IPs {
		entry.Addresses = append(entry.Addresses, ip.Address)
	}
	if entry.Servers, err = servers(own, rd); err != nil {
		return nil, err
	}
	return state.Plan{state.Own(dnsname.Registration{Entry: entry, Path: r.Path})}, nil
}

// servers returns the host's addresses that the container reaches on the
// network: those of the result's interfaces on the host that are its gateway, or
// in its subnet. A network whose bridge has no address, or which has none, such as
// macvlan's, has none.
func servers(own *cni.Result, rd state.Reader) (list []netip.Addr, err error) {
	conn, err := rd.Route(state.Host)
	if err != nil {
		return nil, err
	}
	for _, i := range own.Interfaces {
		if i.Sandbox != "" {
			continue
		}
		l, err := conn.Known(i.Name)
		if errors.Is(err, rtnl.ErrNotFound) {
			continue // such as one that was moved
		}
		if err != nil {
			return nil, err
		}
		addrs, err := conn.Addrs(l.Index)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if addr := a.Prefix.Addr(); reachable(own, addr) && !slices.Contains(list, addr) {
				list = append(list, addr)
			}
		}
	}
	return list, nil
}

func reachable(own *cni.Result, addr netip.Addr) bool {
	return !addr.IsLinkLocalUnicast() && slices.ContainsFunc(own.IPs, func(ip cni.IP) bool {
		return ip.Gateway == addr || ip.Address.Masked().Contains(addr)
	})
}

// observe tells the runtime whom the container is to ask, before what others
// have told it, and the domain in which short names are.
func observe(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) error {
	list, err := servers(r.Own(result), rd)
	if err != nil {
		return err
	}
	var nameservers []string
	for _, a := range list {
		nameservers = append(nameservers, a.String())
	}
	for _, s := range result.DNS.Nameservers {
		if !slices.Contains(nameservers, s) {
			nameservers = append(nameservers, s)
		}
	}
	result.DNS.Nameservers = nameservers
	if !slices.Contains(result.DNS.Search, c.domain()) {
		result.DNS.Search = append(result.DNS.Search, c.domain())
	}
	return nil
}

func footprint(_ *Config, r *plugin.Request, _ []netip.Addr) []state.Key {
	return []state.Key{dnsname.Key(r.Owner)}
}

func ready(_ context.Context, _ *Config, r *plugin.Request, rd state.Reader) error {
	return dnsname.Available(rd, r.Path)
}
