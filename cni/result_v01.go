package cni

import (
	"fmt"
	"net/netip"
)

// resultV01 is the result of 0.1.0 and 0.2.0: one address of each family, each
// with its routes.
type resultV01 struct {
	CNIVersion Version `json:"cniVersion,omitempty"`
	IP4        *ipV01  `json:"ip4,omitempty"`
	IP6        *ipV01  `json:"ip6,omitempty"`
	DNS        DNS     `json:"dns"`
}

type ipV01 struct {
	IP      string     `json:"ip"`
	Gateway string     `json:"gateway,omitempty"`
	Routes  []routeV03 `json:"routes,omitempty"`
}

func newResultV01(r *Result, v Version) *resultV01 {
	w := &resultV01{CNIVersion: v, DNS: r.DNS}
	family := func(a netip.Addr) **ipV01 {
		if a.Is4() {
			return &w.IP4
		}
		return &w.IP6
	}
	for _, ip := range r.IPs {
		if place := family(ip.Address.Addr()); *place == nil {
			*place = &ipV01{IP: ip.Address.String(), Gateway: formatAddr(ip.Gateway)}
		}
	}
	for _, route := range r.Routes {
		if place := *family(route.Dst.Addr()); place != nil {
			place.Routes = append(place.Routes, routeV03{Dst: route.Dst.String(), GW: formatAddr(route.GW)})
		}
	}
	return w
}

func (w *resultV01) result(v Version) (*Result, error) {
	r := &Result{CNIVersion: v, DNS: w.DNS.clone()}
	for _, section := range []struct {
		name string
		*ipV01
	}{{"ip4", w.IP4}, {"ip6", w.IP6}} {
		if section.ipV01 == nil {
			continue
		}
		ip, err := decodeIP(section.IP, section.Gateway)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", section.name, err)
		}
		r.IPs = append(r.IPs, ip)
		for i, wire := range section.Routes {
			route, err := wire.route()
			if err != nil {
				return nil, fmt.Errorf("%s: routes[%d]: %w", section.name, i, err)
			}
			r.Routes = append(r.Routes, route)
		}
	}
	return r, nil
}
