// Package ipam holds what the configurations of IPAM plugins have in common.
// The plugins themselves are the packages below it.
package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
)

// Invalid returns the error of a value that a configuration must not have. key
// is the path of the value, such as "ipam.ranges[0][1].subnet"; hint says how
// to mend it and may be empty.
func Invalid(key, hint, format string, a ...any) error {
	return cni.Errorf(cni.CodeInvalidConfig, "%s: %w", key, fmt.Errorf(format, a...)).WithDetails(hint)
}

// Decode decodes a part of a configuration, whose path is key, into a struct, as
// cni.Decode does. An absent or null part leaves it as it is.
func Decode(raw json.RawMessage, into any, key string) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return cni.Decode(raw, into, key)
}

// Routed is the part of a section "ipam" that has the routes, which
// DecodeRoutes decodes.
type Routed struct {
	Routes rawRoutes `json:"routes"`
}

type rawRoutes struct{ json.RawMessage }

// Shape implements plugin.Shaped: it is that of the routes of a result of 1.1.0.
func (rawRoutes) Shape() any {
	return []struct {
		Dst      string `json:"dst" schema:"required is=subnet"`
		GW       string `json:"gw" schema:"is=address"`
		MTU      int    `json:"mtu" schema:"min=0 max=4294967295"`
		AdvMSS   int    `json:"advmss" schema:"min=0 max=4294967295"`
		Priority int    `json:"priority" schema:"min=0 max=4294967295"`
		Table    *int   `json:"table" schema:"min=0 max=4294967295"`
		Scope    *int   `json:"scope" schema:"min=0 max=255"`
	}{}
}

// DecodeRoutes decodes the key "routes" of the section "ipam". Its elements have the
// form of those of a result of 1.1.0.
func (r Routed) DecodeRoutes() ([]cni.Route, error) {
	raw := r.Routes.RawMessage
	const hint = `a route is {"dst": "CIDR", "gw": "address"}, and may have mtu, advmss, priority, table and scope`
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '[' {
		return nil, Invalid("ipam.routes", hint, "not a list")
	}
	result, err := cni.DecodeResult(fmt.Appendf(nil, `{"routes":%s}`, raw), cni.V110)
	if err != nil {
		// It is said of a result, "decode result: routes[0]: ...", of which what
		// it wraps knows nothing.
		if wrong := errors.Unwrap(err); wrong != nil {
			err = wrong
		}
		return nil, cni.Errorf(cni.CodeInvalidConfig, "ipam.%v", err).WithDetails(hint)
	}
	for i, route := range result.Routes {
		if route.GW.IsValid() && route.GW.BitLen() != route.Dst.Addr().BitLen() {
			return nil, Invalid(fmt.Sprintf("ipam.routes[%d].gw", i), "both must be IPv4 or both IPv6", "%s can't be the gateway to %s", route.GW, route.Dst)
		}
	}
	return result.Routes, nil
}

// A Request is an address that the caller asks for, as it was given, and the
// path of the key that it came with.
type Request struct {
	Key   string
	Value string
	code  cni.Code
}

// Invalid returns the error of a request that can't be granted.
func (r Request) Invalid(hint, format string, a ...any) error {
	return cni.Errorf(r.code, "%s: %w", r.Key, fmt.Errorf(format, a...)).WithDetails(hint)
}

// Requests are the addresses asked for by each of the three ways of
// CONVENTIONS.md.
type Requests struct {
	Args          []Request // CNI_ARGS, key IP: at most one, which may be a list
	Config        []Request // key ips of args.cni
	RuntimeConfig []Request // key ips of runtimeConfig: the capability
}

// RequestKeys are the keys of a configuration that ask for addresses.
type RequestKeys struct {
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		IPs []string `json:"ips"`
	} `json:"runtimeConfig"`
}

// DecodeRequests returns the addresses that a call asks for.
func DecodeRequests(r *plugin.Request) (Requests, error) {
	var q Requests
	if value, _ := r.Args.Get("IP"); value != "" {
		q.Args = []Request{{"CNI_ARGS: IP", value, cni.CodeInvalidEnvironment}}
	}
	var keys RequestKeys
	if err := Decode(r.Config.Args, &keys.Args, "args"); err != nil {
		return q, err
	}
	if err := Decode(r.Config.RuntimeConfig, &keys.RuntimeConfig, "runtimeConfig"); err != nil {
		return q, err
	}
	list := func(key string, values []string) (requests []Request) {
		for i, v := range values {
			requests = append(requests, Request{fmt.Sprintf("%s[%d]", key, i), v, cni.CodeInvalidConfig})
		}
		return requests
	}
	q.Config = list("args.cni.ips", keys.Args.CNI.IPs)
	q.RuntimeConfig = list("runtimeConfig.ips", keys.RuntimeConfig.IPs)
	return q, nil
}

// CheckFamilies refuses more than one address of a family in versions whose
// results have no room for it.
func CheckFamilies(v cni.Version, addrs []netip.Addr, key string) error {
	if v.AtLeast(cni.V030) {
		return nil
	}
	count := make(map[int]int)
	for _, a := range addrs {
		if count[a.BitLen()]++; count[a.BitLen()] > 1 {
			return Invalid(key, "results have room for more since cniVersion 0.3.0", "more than one address of a family in cniVersion %s", v)
		}
	}
	return nil
}
