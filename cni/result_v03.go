package cni

import "fmt"

// resultV03 is the result of 0.3.0, 0.3.1 and 0.4.0. The specification of 0.3.0
// says "ip" where it means "ips"; no plugin was seen to follow it, but it
// may be read.
type resultV03 struct {
	CNIVersion Version        `json:"cniVersion,omitempty"`
	Interfaces []interfaceV03 `json:"interfaces,omitempty"`
	IPs        []ipV03        `json:"ips,omitempty"`
	IP         []ipV03        `json:"ip,omitempty"`
	Routes     []routeV03     `json:"routes,omitempty"`
	DNS        DNS            `json:"dns"`
}

func (w *resultV03) fields() []field {
	return []field{
		{key: "cniVersion", value: &w.CNIVersion},
		{key: "interfaces", value: structures(&w.Interfaces)},
		{key: "ips", value: structures(&w.IPs)},
		{key: "ip", value: structures(&w.IP)},
		{key: "routes", value: structures(&w.Routes)},
		{key: "dns", value: (*dnsJSON)(&w.DNS), need: true},
	}
}

type interfaceV03 struct {
	Name    string `json:"name"`
	MAC     string `json:"mac,omitempty"`
	Sandbox string `json:"sandbox,omitempty"`
}

func (w *interfaceV03) fields() []field {
	return []field{
		{key: "name", value: &w.Name, need: true},
		{key: "mac", value: &w.MAC},
		{key: "sandbox", value: &w.Sandbox},
	}
}

// ipV03 has a version, "4" or "6", which is written but not read: the address
// tells, and the reference's loopback leaves it out.
type ipV03 struct {
	Version   writeOnly `json:"version"`
	Interface *int      `json:"interface,omitempty"`
	Address   string    `json:"address"`
	Gateway   string    `json:"gateway,omitempty"`
}

func (w *ipV03) fields() []field {
	return []field{
		{key: "version", value: &w.Version, need: true},
		{key: "interface", value: &w.Interface},
		{key: "address", value: &w.Address, need: true},
		{key: "gateway", value: &w.Gateway},
	}
}

// routeV03 is a route of every format before 1.0.0. The attributes entered the
// specification with 1.1.0; the reference passes them through all formats that
// have a list of routes, and configurations rely on it.
type routeV03 struct {
	Dst      string `json:"dst"`
	GW       string `json:"gw,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	AdvMSS   int    `json:"advmss,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Table    *int   `json:"table,omitempty"`
	Scope    *int   `json:"scope,omitempty"`
}

func (w *routeV03) fields() []field {
	return []field{
		{key: "dst", value: &w.Dst, need: true},
		{key: "gw", value: &w.GW},
		{key: "mtu", value: &w.MTU},
		{key: "advmss", value: &w.AdvMSS},
		{key: "priority", value: &w.Priority},
		{key: "table", value: &w.Table},
		{key: "scope", value: &w.Scope},
	}
}

// writeOnly is a string that is skipped when it is decoded.
type writeOnly string

func (*writeOnly) UnmarshalJSON([]byte) error { return nil }

func newResultV03(r *Result, v Version) *resultV03 {
	w := &resultV03{CNIVersion: v, DNS: r.DNS}
	for _, i := range r.Interfaces {
		w.Interfaces = append(w.Interfaces, interfaceV03{i.Name, i.MAC, i.Sandbox})
	}
	for _, ip := range r.IPs {
		wire := ipV03{"6", ip.Interface, ip.Address.String(), formatAddr(ip.Gateway)}
		if ip.Address.Addr().Is4() {
			wire.Version = "4"
		}
		w.IPs = append(w.IPs, wire)
	}
	for _, route := range r.Routes {
		w.Routes = append(w.Routes, routeV03{
			route.Dst.String(), formatAddr(route.GW),
			route.MTU, route.AdvMSS, route.Priority, route.Table, route.Scope,
		})
	}
	return w
}

func (w *resultV03) result(v Version) (*Result, error) {
	r := &Result{CNIVersion: v, DNS: w.DNS.clone()}
	for _, i := range w.Interfaces {
		r.Interfaces = append(r.Interfaces, Interface{Name: i.Name, MAC: i.MAC, Sandbox: i.Sandbox})
	}
	if w.IPs == nil && v == V030 {
		w.IPs = w.IP
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
		route, err := wire.route()
		if err != nil {
			return nil, fmt.Errorf("routes[%d]: %w", i, err)
		}
		r.Routes = append(r.Routes, route)
	}
	return r, nil
}

func (w routeV03) route() (Route, error) {
	route, err := decodeRoute(w.Dst, w.GW)
	route.MTU, route.AdvMSS, route.Priority, route.Table, route.Scope = w.MTU, w.AdvMSS, w.Priority, w.Table, w.Scope
	return route, err
}
