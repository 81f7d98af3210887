// Package bandwidth limits what a container sends and receives.
package bandwidth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/qdisc"
)

// New returns the plugin.
func New() plugin.Plugin {
	return plugin.New(plugin.Def[Config]{
		Name:      "bandwidth",
		Validate:  validate,
		Desired:   desired,
		Observe:   observe,
		Footprint: footprint,
		Kinds:     []state.Kind{qdisc.Kind{}, link.IFBKind{}, qdisc.Orphans{}},
		Ready:     ready,
	})
}

// A place is where a container's packets are limited. Linux queues only what
// leaves a link, so that what arrives is sent through another link first.
type place struct {
	ns   state.NS
	link string
	ifb  string

	// host tells that the link is the host's end of the pair: what leaves
	// it arrives at the container.
	host bool
}

// locate finds the host's end of the container's link, where a container has no
// say. A link without such an end, a macvlan for one, has its limits in the
// container, which can lift them if it may administer its network.
func locate(r *plugin.Request, result *cni.Result, rd state.Reader) (place, error) {
	sandbox, err := rd.Route(state.Sandbox)
	if err != nil {
		return place{}, err
	}
	inside, err := sandbox.Known(r.IfName)
	if errors.Is(err, rtnl.ErrNotFound) {
		if r.Verb == cni.VerbAdd {
			return place{}, cni.Errorf(cni.CodeInvalidConfig,
				"there is no interface %s in the container: bandwidth limits that of another plugin; list it after that", r.IfName)
		}
		return missing(r, result), nil
	}
	if err != nil {
		return place{}, err
	}
	end, err := hostEnd(inside, result, rd)
	if err != nil {
		return place{}, err
	}
	if end != "" {
		return place{ns: state.Host, link: end, ifb: ifbName(r), host: true}, nil
	}
	return place{ns: state.Sandbox, link: r.IfName, ifb: link.IFBName(r.Owner)}, nil
}

// missing is the place of a link that is not there, which CHECK is to say.
func missing(r *plugin.Request, result *cni.Result) place {
	for _, i := range result.Interfaces {
		if i.Sandbox == "" && strings.HasPrefix(i.Name, hostEndPrefix) {
			return place{ns: state.Host, link: i.Name, ifb: ifbName(r), host: true}
		}
	}
	return place{ns: state.Sandbox, link: r.IfName, ifb: link.IFBName(r.Owner)}
}

// hostEndPrefix is how the names of hosts' ends begin, the reference's too.
const hostEndPrefix = "veth"

// hostEnd returns the name of the host's end of a pair, empty if there is none.
// The result, if it names links of the host, has to name this one.
func hostEnd(inside *rtnl.Link, result *cni.Result, rd state.Reader) (string, error) {
	end, err := link.OtherEnd(rd, inside)
	if err != nil || end == nil {
		return "", err
	}
	named := func(i cni.Interface) bool { return i.Sandbox == "" && i.Name == end.Name }
	others := slices.ContainsFunc(result.Interfaces, func(i cni.Interface) bool { return i.Sandbox == "" })
	if others && !slices.ContainsFunc(result.Interfaces, named) {
		return "", nil
	}
	return end.Name, nil
}

// ifbName returns the name of the device on the host: on CHECK and DEL the one
// that ADD reported, which the reference may have made.
func ifbName(r *plugin.Request) string {
	own := link.IFBName(r.Owner)
	reported := r.PreviousHost()
	if !slices.Contains(reported, own) && slices.Contains(reported, link.ReferenceIFBName(r.Owner)) {
		return link.ReferenceIFBName(r.Owner)
	}
	return own
}

// desired limits what leaves the link, and what arrives there by way of a device
// whose queue it passes. The link may outlive the limits, so that they are removed
// one by one.
func desired(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) (state.Plan, error) {
	l := c.limits()
	if l.IngressRate == 0 && l.EgressRate == 0 {
		return nil, nil
	}
	if r.Config.PrevResult == nil {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "prevResult is missing: bandwidth limits the interface of another plugin; list it after that")
	}
	p, err := locate(r, result, rd)
	if err != nil {
		return nil, err
	}
	leaving, arriving := limit(l, p, p.host), limit(l, p, !p.host)

	var plan state.Plan
	if arriving.Rate != 0 {
		ifb := link.IFB{Owner: r.Owner, NS: p.ns, Name: p.ifb, For: p.link}
		arriving.Link = p.ifb
		plan = append(plan,
			state.Own(ifb),
			state.On(ifb.Key(), arriving), // while it is down, which costs less
			state.On(ifb.Key(), link.Up{NS: p.ns, Link: p.ifb}),
			state.Own(qdisc.Redirect{NS: p.ns, Link: p.link, Via: p.ifb}),
		)
	}
	if leaving.Rate != 0 {
		plan = append(plan, state.Own(leaving))
	}
	return plan, nil
}

// limit is that of what arrives at the container, or of what it sends.
func limit(l Limits, p place, ingress bool) qdisc.Limit {
	q := qdisc.Limit{NS: p.ns, Link: p.link, To: !ingress, Rate: l.EgressRate / 8, Burst: burstBytes(l.EgressBurst)}
	if ingress {
		q.Rate, q.Burst = l.IngressRate/8, burstBytes(l.IngressBurst)
	}
	q.Only, _ = subnets("", l.ShapedSubnets) // they are valid
	q.Except, _ = subnets("", l.UnshapedSubnets)
	return q
}

// ready asks for the device that one direction of two needs, and which of them that
// is depends on the container's link. Limits may come from the runtime alone, or
// never.
func ready(_ context.Context, c *Config, _ *plugin.Request, rd state.Reader) error {
	if l := c.limits(); l.IngressRate == 0 && l.EgressRate == 0 {
		return nil
	}
	return link.Available(rd, "ifb")
}

// observe reports the device on the host, as the reference does.
func observe(_ context.Context, c *Config, r *plugin.Request, result *cni.Result, rd state.Reader) error {
	if c.limits().EgressRate == 0 {
		return nil
	}
	conn, err := rd.Route(state.Host)
	if err != nil {
		return err
	}
	ifb, err := conn.Known(ifbName(r))
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil // it is in the container
	}
	if err != nil {
		return err
	}
	reported := cni.Interface{Name: ifb.Name, MAC: ifb.MAC.String()}
	if r.Config.CNIVersion.AtLeast(cni.V110) {
		reported.MTU = uint(ifb.MTU)
	}
	result.Interfaces = append(result.Interfaces, reported)
	return nil
}

// footprint names the device on either side, and the reference's, and what limits
// and redirects at the host's end.
func footprint(_ *Config, r *plugin.Request, _ []netip.Addr) []state.Key {
	keys := []state.Key{
		link.IFBKey(state.Host, link.IFBName(r.Owner)),
		link.IFBKey(state.Host, link.ReferenceIFBName(r.Owner)),
		link.IFBKey(state.Sandbox, link.IFBName(r.Owner)),
		qdisc.LimitKey(state.Host, link.HostName(r.Owner)), qdisc.RedirectKey(state.Host, link.HostName(r.Owner)),
	}
	for _, name := range r.PreviousHost() {
		if strings.HasPrefix(name, hostEndPrefix) && name != link.HostName(r.Owner) {
			keys = append(keys, qdisc.LimitKey(state.Host, name), qdisc.RedirectKey(state.Host, name))
		}
	}
	return keys
}
