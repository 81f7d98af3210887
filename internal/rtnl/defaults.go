package rtnl

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// DefaultRoutes returns the routes to everywhere of a family in the main table
// by which packets leave, one for every next hop.
func (c *Conn) DefaultRoutes(is4 bool) ([]Route, error) {
	h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET6, Table: MainTable, Type: unix.RTN_UNICAST}}
	if is4 {
		h.Family = unix.AF_INET
	}
	msgs, err := c.get(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.RTM_NEWROUTE, h)
	if errors.Is(err, ErrNotFound) {
		return nil, nil // a table exists from its first route on
	}
	if err != nil {
		return nil, fmt.Errorf("list default routes: %w", err)
	}
	var routes []Route
	for _, m := range msgs {
		if got := nl.DeserializeRtMsg(m); got.Dst_len != 0 || got.Type != unix.RTN_UNICAST {
			continue
		}
		rs, err := parseRoute(m)
		if err != nil {
			return nil, fmt.Errorf("list default routes: %w", err)
		}
		for _, r := range rs {
			if r.Table == MainTable {
				routes = append(routes, r)
			}
		}
	}
	return routes, nil
}
