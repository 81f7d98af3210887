package plugin

import (
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/cni"
)

// Own returns of a result what belongs to the interface that the call is
// about, since other plugins of the list may have added interfaces of theirs.
func (r *Request) Own(result *cni.Result) *cni.Result {
	mine := result.Clone()
	mine.IPs = nil
	for _, ip := range result.IPs {
		if ip.Interface == nil || r.isOwn(result.Interfaces[*ip.Interface]) {
			mine.IPs = append(mine.IPs, ip)
		}
	}
	return mine
}

func (r *Request) isOwn(i cni.Interface) bool { return i.Name == r.IfName && i.Sandbox != "" }

// Previous returns the interface of CNI_IFNAME as the final result of ADD
// describes it, for CHECK and DEL.
func (r *Request) Previous() (cni.Interface, bool) {
	if r.Verb == cni.VerbAdd || r.Config.PrevResult == nil {
		return cni.Interface{}, false
	}
	for _, i := range r.Config.PrevResult.Interfaces {
		if r.isOwn(i) {
			return i, true
		}
	}
	return cni.Interface{}, false
}

// PreviousHost returns the names of the host's interfaces in the final result
// of ADD, for CHECK and DEL.
func (r *Request) PreviousHost() []string {
	if r.Verb == cni.VerbAdd || r.Config.PrevResult == nil {
		return nil
	}
	var names []string
	for _, i := range r.Config.PrevResult.Interfaces {
		if i.Sandbox == "" {
			names = append(names, i.Name)
		}
	}
	return names
}

// previousAddresses returns the addresses of the interface that the call is
// about, as prevResult has them, each once.
func (r *Request) previousAddresses() []netip.Addr {
	if r.Config.PrevResult == nil {
		return nil
	}
	return distinct(addresses(r.Own(r.Config.PrevResult)))
}

// distinct returns the addresses sorted, each once.
func distinct(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// addresses returns the addresses of a result, none of nil.
func addresses(result *cni.Result) []netip.Addr {
	if result == nil {
		return nil
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.Addr())
	}
	return addrs
}
