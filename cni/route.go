package cni

import "net/netip"

// A Route is a route of the container. The zero of a field means that the
// result doesn't say.
type Route struct {
	Dst      netip.Prefix
	GW       netip.Addr // next hop; if unset, the Gateway of an IP of the same family may serve
	MTU      int        // bytes, along the path to Dst
	AdvMSS   int        // bytes, announced when TCP connections are set up
	Priority int        // metric: lower is preferred
	Table    *int       // routing table number; nil is the main one
	Scope    *int       // rtnetlink(7): 0 global, 253 link, 254 host
}

// clone returns a deep copy of r.
func (r Route) clone() Route {
	r.Table, r.Scope = clonePtr(r.Table), clonePtr(r.Scope)
	return r
}

// validate returns what is wrong with r, if anything.
func (r Route) validate() error {
	switch {
	case !r.Dst.IsValid():
		return Errorf(CodeDecode, "dst is missing")
	case r.MTU < 0 || r.AdvMSS < 0 || r.Priority < 0 || r.Table != nil && *r.Table < 0 || r.Scope != nil && *r.Scope < 0:
		return Errorf(CodeDecode, "negative attribute of the route to %s", r.Dst)
	}
	return nil
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}
