package types

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
)

// A Route is a route of the container. The zero of a field means that nothing is
// said of it.
type Route struct {
	Dst      net.IPNet
	GW       net.IP
	MTU      int  // bytes, along the path to Dst
	AdvMSS   int  // bytes, announced when TCP connections are set up
	Priority int  // metric: lower is preferred
	Table    *int // routing table number; nil is the main one
	Scope    *int // rtnetlink(7): 0 global, 253 link, 254 host
}

// routeJSON is the form of a Route.
type routeJSON struct {
	Dst      IPNet  `json:"dst"`
	GW       net.IP `json:"gw,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	AdvMSS   int    `json:"advmss,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Table    *int   `json:"table,omitempty"`
	Scope    *int   `json:"scope,omitempty"`
}

// String returns the route for people to read.
func (r *Route) String() string {
	number := func(n *int) string {
		if n == nil {
			return "<nil>"
		}
		return strconv.Itoa(*n)
	}
	return fmt.Sprintf("{Dst:%+v GW:%v MTU:%d AdvMSS:%d Priority:%d Table:%s Scope:%s}",
		r.Dst, r.GW, r.MTU, r.AdvMSS, r.Priority, number(r.Table), number(r.Scope))
}

// Copy returns a copy of r whose Table and Scope are its own. The copy of nil is
// nil.
func (r *Route) Copy() *Route {
	if r == nil {
		return nil
	}
	c := *r
	if r.Table != nil {
		c.Table = new(*r.Table)
	}
	if r.Scope != nil {
		c.Scope = new(*r.Scope)
	}
	return &c
}

// MarshalJSON returns the route in the form of the specification.
func (r Route) MarshalJSON() ([]byte, error) {
	return json.Marshal(routeJSON{IPNet(r.Dst), r.GW, r.MTU, r.AdvMSS, r.Priority, r.Table, r.Scope})
}

// UnmarshalJSON takes the form that MarshalJSON returns.
func (r *Route) UnmarshalJSON(data []byte) error {
	var w routeJSON
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*r = Route{net.IPNet(w.Dst), w.GW, w.MTU, w.AdvMSS, w.Priority, w.Table, w.Scope}
	return nil
}
