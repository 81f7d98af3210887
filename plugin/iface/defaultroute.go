package iface

import (
	"math"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
)

// A DefaultRoute is the value of the key "defaultRoute": what becomes of the
// default routes of an attachment, for a container with several networks. It
// is "auto", "never" or a metric, as encoding/json decodes them.
//
// nil leaves them as they are: IPv6 shares the traffic between routes of one
// metric, IPv4 uses the one that was added last.
type DefaultRoute any

// Values of DefaultRoute besides metrics.
const (
	never = "never"
	auto  = "auto"
)

// maxMetric is the highest that the kernel takes and an int of any size holds.
const maxMetric = math.MaxInt32

// DefaultRoutes returns the words that a DefaultRoute may be, and the highest of
// the metrics, which count from 1.
func DefaultRoutes() (words []string, metrics int) { return []string{auto, never}, maxMetric }

// ValidateDefaultRoute refuses what is none.
func ValidateDefaultRoute(d DefaultRoute) error {
	if d == nil || d == never || d == auto || chosen(d) != 0 {
		return nil
	}
	return cni.Errorf(cni.CodeInvalidConfig, `defaultRoute: %v is neither "auto" nor "never" nor a metric from 1 to %d`, d, maxMetric)
}

// chosen returns the metric that a value is, 0 for none.
func chosen(d DefaultRoute) int {
	number, ok := d.(float64)
	if !ok || number < 1 || number > maxMetric || number != math.Trunc(number) {
		return 0
	}
	return int(number)
}

// ApplyDefaultRoute makes the default routes of a result what they shall be,
// before they are planned.
//
// On ADD, "auto" looks at the sandbox: where it has default routes of a family
// already, those of this attachment get metrics behind all of them, so that
// the network that was added first keeps the traffic, and the next takes over
// when it goes. On CHECK the result has the metrics of ADD, or none that is
// compared, if it is of a version before 1.0.0.
func ApplyDefaultRoute(d DefaultRoute, r *plugin.Request, result *cni.Result, rd state.Reader) error {
	if d == never {
		result.Routes = slices.DeleteFunc(result.Routes, isDefault)
		return nil
	}
	adding := r.Verb == cni.VerbAdd
	for i := range result.Routes {
		route := &result.Routes[i]
		if wanted := chosen(d); wanted != 0 && isDefault(*route) && (adding || route.Priority == 0) {
			route.Priority = wanted
		}
	}
	if d != auto || !adding {
		return nil
	}
	for _, is4 := range []bool{true, false} {
		if err := fallBehind(result, is4, rd); err != nil {
			return err
		}
	}
	return nil
}

// isDefault reports whether a route is for everything in the main table.
func isDefault(r cni.Route) bool {
	return r.Dst.Bits() == 0 && (r.Table == nil || *r.Table == 0 || *r.Table == rtnl.MainTable)
}

// fallBehind gives the default routes of a family metrics behind those that the
// sandbox has, with the distances that they have now.
func fallBehind(result *cni.Result, is4 bool, rd state.Reader) error {
	var mine []*cni.Route
	first := maxMetric
	for i := range result.Routes {
		if route := &result.Routes[i]; isDefault(*route) && route.Dst.Addr().Is4() == is4 {
			mine = append(mine, route)
			first = min(first, metric(*route))
		}
	}
	if mine == nil {
		return nil
	}
	conn, err := rd.Route(state.Sandbox)
	if err != nil {
		return err
	}
	there, err := conn.DefaultRoutes(is4)
	if err != nil {
		return err
	}
	last := -1
	for _, route := range there {
		last = max(last, route.Priority)
	}
	if first > last {
		return nil
	}
	for _, route := range mine {
		route.Priority = metric(*route) - first + last + 1
		if route.Priority > maxMetric {
			return cni.Errorf(state.CodeConflict,
				"the sandbox has a default route of metric %d, behind which there is no room; give a metric as defaultRoute", last)
		}
	}
	return nil
}

// metric6 is what the kernel gives an IPv6 route without a metric
// (IP6_RT_PRIO_USER of linux/ipv6_route.h).
const metric6 = 1024

// metric returns the metric that a route will have.
func metric(r cni.Route) int {
	if r.Priority == 0 && r.Dst.Addr().Is6() {
		return metric6
	}
	return r.Priority
}
