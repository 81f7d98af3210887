// Package static is the IPAM plugin static: it gives the addresses that the
// configuration or the caller names, and keeps nothing. The keys are those of
// the reference's document.
package static

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/ipam"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
)

type static struct{}

// New returns the plugin.
func New() plugin.IPAM { return static{} }

// A section is the section "ipam" of a configuration.
type section struct {
	Addresses []struct {
		Address string `json:"address" schema:"required is=subnet"`
		Gateway string `json:"gateway" schema:"is=address"`
	} `json:"addresses"`
	ipam.Routed
	DNS cni.DNS `json:"dns"`
}

// Config implements plugin.IPAM.
func (static) Config() reflect.Type {
	return reflect.TypeFor[struct {
		IPAM section `json:"ipam"`
		ipam.RequestKeys
	}]()
}

// Name implements plugin.IPAM.
func (static) Name() string { return "static" }

// Add implements plugin.IPAM. Errors have cni.CodeInvalidConfig or
// cni.CodeInvalidEnvironment.
func (static) Add(_ context.Context, r *plugin.Request) (*cni.Result, error) {
	return parse(r)
}

// Check implements plugin.IPAM: prevResult must have every address that is
// configured now, with its gateway. An address without a gateway may have any.
// Errors have state.CodeDrift if it doesn't, else those of Add.
func (static) Check(_ context.Context, r *plugin.Request) error {
	want, err := parse(r)
	if err != nil {
		return err
	}
	if r.Config.PrevResult == nil {
		return cni.Errorf(cni.CodeInvalidConfig, "network %s: CHECK needs a prevResult", r.Config.Name)
	}
	got := r.Config.PrevResult.IPs
	for _, ip := range want.IPs {
		i := slices.IndexFunc(got, func(g cni.IP) bool { return g.Address.Addr() == ip.Address.Addr() })
		if i < 0 {
			return cni.Errorf(state.CodeDrift, "network %s: %s is configured but not in prevResult", r.Config.Name, ip.Address)
		}
		if ip.Gateway.IsValid() && got[i].Gateway != ip.Gateway {
			return cni.Errorf(state.CodeDrift, "network %s: gateway of %s is %s, want %s", r.Config.Name, ip.Address, got[i].Gateway, ip.Gateway)
		}
	}
	return nil
}

// Held implements plugin.IPAM. What is configured may be anybody's: nothing is
// kept of who has it.
func (static) Held(context.Context, *plugin.Request) ([]netip.Addr, error) { return nil, nil }

// Del implements plugin.IPAM. There is nothing to release.
func (static) Del(context.Context, *plugin.Request) ([]netip.Addr, error) { return nil, nil }

// GC implements plugin.IPAM. There is nothing to release.
func (static) GC(context.Context, *plugin.Request) ([]netip.Addr, error) { return nil, nil }

// Status implements plugin.IPAM. Its errors are Add's.
func (static) Status(_ context.Context, r *plugin.Request) error {
	_, err := parse(r)
	return err
}

// parse returns what the configuration and the arguments say. CNI_ARGS add to
// the configured addresses, "args" replaces these, and the capability "ips"
// replaces those.
func parse(r *plugin.Request) (*cni.Result, error) {
	if err := r.Args.Check(); err != nil {
		return nil, err
	}
	var section section
	if err := ipam.Decode(r.Config.IPAM.Raw, &section, "ipam"); err != nil {
		return nil, err
	}
	result := &cni.Result{CNIVersion: r.Config.CNIVersion, DNS: section.DNS}
	var err error
	if result.Routes, err = section.DecodeRoutes(); err != nil {
		return nil, err
	}
	requests, err := ipam.DecodeRequests(r)
	if err != nil {
		return nil, err
	}
	args, err := parseArgs(r, requests)
	if err != nil {
		return nil, err
	}
	override := requests.RuntimeConfig
	if len(override) == 0 {
		override = requests.Config
	}
	if len(override) > 0 {
		for _, q := range override {
			p, err := cni.ParsePrefix(q.Value)
			if err != nil {
				return nil, q.Invalid("", "%w", err)
			}
			result.IPs = append(result.IPs, cni.IP{Address: p})
		}
		return result, checkFamilies(r, result)
	}
	for i, a := range section.Addresses {
		key := fmt.Sprintf("ipam.addresses[%d]", i)
		ip := cni.IP{}
		if ip.Address, err = cni.ParsePrefix(a.Address); err != nil {
			return nil, ipam.Invalid(key+".address", "", "%w", err)
		}
		if a.Gateway != "" {
			if ip.Gateway, err = cni.ParseAddr(a.Gateway); err != nil {
				return nil, ipam.Invalid(key+".gateway", "", "%w", err)
			}
			if ip.Gateway.BitLen() != ip.Address.Addr().BitLen() {
				return nil, ipam.Invalid(key+".gateway", "both must be IPv4 or both IPv6", "%s can't be the gateway of %s", ip.Gateway, ip.Address)
			}
		}
		result.IPs = append(result.IPs, ip)
	}
	result.IPs = append(result.IPs, args...)
	return result, checkFamilies(r, result)
}

// parseArgs returns the addresses of CNI_ARGS: a list in IP, each with the last
// address of the list in GATEWAY that is of its subnet. A gateway of none of
// them is ignored, as in the reference.
func parseArgs(r *plugin.Request, requests ipam.Requests) (ips []cni.IP, err error) {
	for _, q := range requests.Args {
		for item := range strings.SplitSeq(q.Value, ",") {
			p, err := cni.ParsePrefix(strings.TrimSpace(item))
			if err != nil {
				return nil, q.Invalid("", "%w", err)
			}
			ips = append(ips, cni.IP{Address: p})
		}
	}
	gateways, _ := r.Args.Get("GATEWAY")
	if gateways == "" {
		return ips, nil
	}
	for item := range strings.SplitSeq(gateways, ",") {
		gw, err := cni.ParseAddr(strings.TrimSpace(item))
		if err != nil {
			return nil, cni.Errorf(cni.CodeInvalidEnvironment, "CNI_ARGS: GATEWAY: %w", err)
		}
		for i := range ips {
			if ips[i].Address.Contains(gw) {
				ips[i].Gateway = gw
			}
		}
	}
	return ips, nil
}

func checkFamilies(r *plugin.Request, result *cni.Result) error {
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.Addr())
	}
	return ipam.CheckFamilies(r.Config.CNIVersion, addrs, "ipam.addresses")
}
