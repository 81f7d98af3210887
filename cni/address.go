package cni

import (
	"fmt"
	"net/netip"
)

// ParsePrefix parses an address in CIDR notation and keeps its host bits. An
// IPv4-mapped IPv6 address is the IPv4 address that it stands for. The error
// names the value.
func ParsePrefix(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, fmt.Errorf("missing")
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address in CIDR notation, such as 10.0.0.2/24", s)
	}
	if !p.Addr().Is4In6() {
		return p, nil
	}
	p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	if !p.IsValid() {
		return netip.Prefix{}, fmt.Errorf("the prefix of %q is wider than an IPv4 address", s)
	}
	return p, nil
}

// ParseAddr parses an IP address, which has no zone. An IPv4-mapped IPv6 address
// is the IPv4 address that it stands for. The error names the value.
func ParseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	}
	return a.Unmap(), nil
}

// parseOptional parses an address; the empty string is none, the zero Addr.
func parseOptional(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	return ParseAddr(s)
}

// formatAddr is the inverse of parseOptional.
func formatAddr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

// decodeIP decodes what the IPs of all formats have in common.
func decodeIP(address, gateway string) (IP, error) {
	p, err := ParsePrefix(address)
	if err != nil {
		return IP{}, fmt.Errorf("address: %w", err)
	}
	gw, err := parseOptional(gateway)
	if err != nil {
		return IP{}, fmt.Errorf("gateway: %w", err)
	}
	return IP{Address: p, Gateway: gw}, nil
}

// decodeRoute decodes what the routes of all formats have in common.
func decodeRoute(dst, gw string) (Route, error) {
	p, err := ParsePrefix(dst)
	if err != nil {
		return Route{}, fmt.Errorf("dst: %w", err)
	}
	hop, err := parseOptional(gw)
	if err != nil {
		return Route{}, fmt.Errorf("gw: %w", err)
	}
	return Route{Dst: p, GW: hop}, nil
}
