package cni

import "fmt"

// resultV1 is the result of 1.0.0 and 1.1.0. The fields are in the order of
// their keys, as the reference prints them. It also prints the attributes that
// came with 1.1.0 in results of 1.0.0, whose readers skip them.
type resultV1 struct {
	CNIVersion Version       `json:"cniVersion,omitempty"`
	DNS        dnsV1         `json:"dns,omitzero"`
	Interfaces []interfaceV1 `json:"interfaces,omitempty"`
	IPs        []ipV1        `json:"ips,omitempty"`
	Routes     []routeV1     `json:"routes,omitempty"`
}

func (w *resultV1) fields() []field {
	return []field{
		{key: "cniVersion", value: &w.CNIVersion},
		{key: "dns", value: &w.DNS},
		{key: "interfaces", value: structures(&w.Interfaces)},
		{key: "ips", value: structures(&w.IPs)},
		{key: "routes", value: structures(&w.Routes)},
	}
}

type interfaceV1 struct {
	MAC        string `json:"mac,omitempty"`
	MTU        uint   `json:"mtu,omitempty"`
	Name       string `json:"name"`
	PCIID      string `json:"pciID,omitempty"`
	Sandbox    string `json:"sandbox,omitempty"`
	SocketPath string `json:"socketPath,omitempty"`
}

func (w *interfaceV1) fields() []field {
	return []field{
		{key: "mac", value: &w.MAC},
		{key: "mtu", value: &w.MTU},
		{key: "name", value: &w.Name, need: true},
		{key: "pciID", value: &w.PCIID},
		{key: "sandbox", value: &w.Sandbox},
		{key: "socketPath", value: &w.SocketPath},
	}
}

type ipV1 struct {
	Address   string `json:"address"`
	Gateway   string `json:"gateway,omitempty"`
	Interface *int   `json:"interface,omitempty"`
}

func (w *ipV1) fields() []field {
	return []field{
		{key: "address", value: &w.Address, need: true},
		{key: "gateway", value: &w.Gateway},
		{key: "interface", value: &w.Interface},
	}
}

type routeV1 struct {
	AdvMSS   int    `json:"advmss,omitempty"`
	Dst      string `json:"dst"`
	GW       string `json:"gw,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Scope    *int   `json:"scope,omitempty"`
	Table    *int   `json:"table,omitempty"`
}

func (w *routeV1) fields() []field {
	return []field{
		{key: "advmss", value: &w.AdvMSS},
		{key: "dst", value: &w.Dst, need: true},
		{key: "gw", value: &w.GW},
		{key: "mtu", value: &w.MTU},
		{key: "priority", value: &w.Priority},
		{key: "scope", value: &w.Scope},
		{key: "table", value: &w.Table},
	}
}

type dnsV1 struct {
	Domain      string   `json:"domain,omitempty"`
	Nameservers []string `json:"nameservers,omitempty"`
	Options     []string `json:"options,omitempty"`
	Search      []string `json:"search,omitempty"`
}

func (w *dnsV1) fields() []field {
	return []field{
		{key: "domain", value: &w.Domain},
		{key: "nameservers", value: &w.Nameservers},
		{key: "options", value: &w.Options},
		{key: "search", value: &w.Search},
	}
}

func newResultV1(r *Result, v Version) *resultV1 {
	w := &resultV1{CNIVersion: v}
	if !r.DNS.IsZero() {
		w.DNS = dnsV1{r.DNS.Domain, r.DNS.Nameservers, r.DNS.Options, r.DNS.Search}
	}
	for _, i := range r.Interfaces {
		w.Interfaces = append(w.Interfaces, interfaceV1{i.MAC, i.MTU, i.Name, i.PCIID, i.Sandbox, i.SocketPath})
	}
	for _, ip := range r.IPs {
		w.IPs = append(w.IPs, ipV1{ip.Address.String(), formatAddr(ip.Gateway), ip.Interface})
	}
	for _, route := range r.Routes {
		w.Routes = append(w.Routes, routeV1{
			route.AdvMSS, route.Dst.String(), formatAddr(route.GW),
			route.MTU, route.Priority, route.Scope, route.Table,
		})
	}
	return w
}

func (w *resultV1) result(v Version) (*Result, error) {
	r := &Result{CNIVersion: v, DNS: DNS{w.DNS.Nameservers, w.DNS.Domain, w.DNS.Search, w.DNS.Options}.clone()}
	for _, i := range w.Interfaces {
		r.Interfaces = append(r.Interfaces, Interface{i.Name, i.MAC, i.MTU, i.Sandbox, i.SocketPath, i.PCIID})
	}
	for i, wire := range w.IPs {
		ip, err := decodeIP(wire.Address, wire.Gateway)
		if err != nil {
			return nil, fmt.Errorf("ips[%d]: %w", i, err)
		}
		ip.Interface = wire.Interface
		r.IPs = append(r.IPs, ip)
	}
	for i, wire := range w.Routes {
		route, err := decodeRoute(wire.Dst, wire.GW)
		if err != nil {
			return nil, fmt.Errorf("routes[%d]: %w", i, err)
		}
		route.MTU, route.AdvMSS, route.Priority = wire.MTU, wire.AdvMSS, wire.Priority
		route.Table, route.Scope = wire.Table, wire.Scope
		r.Routes = append(r.Routes, route)
	}
	return r, nil
}
