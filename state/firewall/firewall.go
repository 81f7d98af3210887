// Package firewall is the state of a host's packet filter letting an
// attachment's traffic pass, and of bridges being closed to each other.
//
// # Where rules go
//
// A packet that is forwarded goes through every base chain at the forward hook,
// and an accept in one does not undo a drop in another. So there are several
// places in which an address may have to be admitted:
//
//   - the filter table of iptables, of either variant. What is written is what
//     the reference writes: two rules for each address in chain CNI-FORWARD. In
//     tables of nftables it is written by netlink, in the form that iptables
//     knows as its own; only the legacy tables need a process;
//   - table inet plumb, of nftables;
//   - tables of others in nftables whose policy at the hook is to drop. They
//     get the same sets as inet plumb has, and a jump behind their own rules,
//     which so keep the first word;
//   - a zone of firewalld.
//
// With nftables, an address is an element of a set, with the owner's tag as its
// comment:
//
//	table inet plumb {
//		set accept4 {
//			type ipv4_addr
//			elements = { 10.22.0.3 comment "plumb:net/id/eth0" }
//		}
//		set accept6 …
//		set admitted4 …
//		chain forward-accept {
//			ip saddr @accept4 accept
//			ip daddr @accept4 ct state established,related accept
//			ip daddr @accept4 ct status dnat accept
//			…
//		}
//		chain forward {
//			type filter hook forward priority filter; policy accept;
//			jump forward-accept
//		}
//	}
//
// Rules of iptables and sources of firewalld do not tell whose they are. So an
// address that is admitted by these is an element too, of the sets admitted4
// and admitted6, which no rule looks at.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
)

const kindName = "firewall"

// A Backend is the means.
type Backend string

// Backends. Auto is firewalld where it runs, else iptables where it is
// installed, else nftables.
const (
	Auto      Backend = ""
	NFTables  Backend = "nftables"
	IPTables  Backend = "iptables"
	Firewalld Backend = "firewalld"
)

// ParseBackend returns the back end that a configuration names.
func ParseBackend(name string) (Backend, error) {
	b := Backend(name)
	if !slices.Contains([]Backend{Auto, NFTables, IPTables, Firewalld}, b) {
		return "", fmt.Errorf("unknown backend %q: it is %q, %q or %q", name, NFTables, IPTables, Firewalld)
	}
	return b, nil
}

// Defaults of an Admission.
const (
	DefaultAdminChain = "CNI-ADMIN"
	DefaultZone       = "trusted"
)

// Reserved reports whether an AdminChain would be one of iptables' own chains or
// targets, or one that is made here.
func Reserved(chain string) bool {
	return slices.Contains([]string{
		inputChain, forwardChain, "OUTPUT", targetAccept, targetDrop, targetReturn, targetReject, "QUEUE",
		cniForward, stage1, stage2,
	}, chain)
}

// An Admission lets what the addresses of one attachment send pass, and the
// answers to it. It is of the host's namespace.
type Admission struct {
	Owner      state.Owner
	Addresses  []netip.Addr
	Backend    Backend
	AdminChain string // of iptables, with rules of the user's that come first
	Zone       string // of firewalld
}

var _ state.Marked = Admission{}

// Key names the admission of addresses. The zone is that of firewalld, or empty
// if firewalld can't be what admitted them. Without addresses, everybody's are
// looked through.
func Key(o state.Owner, zone string, addrs ...netip.Addr) state.Key {
	return tagKey(o.Tag(), zone, addrs)
}

// tagKey writes the name of a key: a tag, the addresses, and a zone, separated
// by spaces.
func tagKey(tag, zone string, addrs []netip.Addr) state.Key {
	var list []string
	for _, a := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) {
		list = append(list, a.Unmap().String())
	}
	return state.Key{NS: state.Host, Kind: kindName, Name: tag + " " + strings.Join(list, ",") + " " + zone}
}

// parseKey returns what tagKey has written.
func parseKey(name string) (tag, zone string, addrs []netip.Addr, err error) {
	parts := strings.SplitN(name, " ", 3)
	if len(parts) != 3 {
		return "", "", nil, fmt.Errorf("name %q is not of three parts", name)
	}
	for s := range strings.SplitSeq(parts[1], ",") {
		if s == "" {
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return "", "", nil, err
		}
		addrs = append(addrs, a)
	}
	return parts[0], parts[2], addrs, nil
}

// Key names the state by its owner and addresses.
func (a Admission) Key() state.Key {
	zone := a.Zone
	if a.Backend != Auto && a.Backend != Firewalld {
		zone = ""
	}
	return Key(a.Owner, zone, a.addresses()...)
}

// addresses returns the addresses in one form, each once.
func (a Admission) addresses() []netip.Addr {
	var list []netip.Addr
	for _, addr := range a.Addresses {
		list = append(list, addr.Unmap())
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// ofFamily returns those addresses that are of a family, nil if none are.
func ofFamily(f nftconn.Family, addrs []netip.Addr) (list []netip.Addr) {
	for _, a := range addrs {
		if nftconn.FamilyOf(a) == f {
			list = append(list, a)
		}
	}
	return list
}

// choose returns the back end that Auto means here, and firewalld if it is
// that.
func choose(ctx context.Context, b Backend) (Backend, *zones, error) {
	if b == Auto || b == Firewalld {
		z, err := dialFirewalld(ctx)
		if err != nil && (b == Firewalld || !errors.Is(err, errNotRunning)) {
			return b, nil, err
		}
		if err == nil {
			return Firewalld, z, nil
		}
	}
	if b != Auto {
		return b, nil, nil
	}
	if err := iptables.Installed(nftconn.IPv4); err != nil {
		return NFTables, nil, nil
	}
	return IPTables, nil, nil
}

// Ensure admits the addresses that are not admitted yet, and replaces what a
// dead attachment left for them.
func (a Admission) Ensure(ctx context.Context, k *state.Kernel) (undo state.Undo, err error) {
	backend, z, err := choose(ctx, a.Backend)
	if err != nil {
		return nil, unavailable(err)
	}
	defer z.close()
	conn, err := k.NFT()
	if err != nil {
		return nil, err
	}
	var added []netip.Addr
	undo = func(ctx context.Context) error {
		return remove(ctx, k, removal{owner: a.Owner, tag: a.Owner.Tag(), addrs: added, zone: a.zoneOf(backend)})
	}
	defer func() {
		if err != nil && added != nil {
			err = errors.Join(err, undo(context.WithoutCancel(ctx)))
		}
		if err != nil || added == nil {
			undo = nil
		}
	}()
	add := func(addrs []netip.Addr) {
		for _, addr := range addrs {
			if !slices.Contains(added, addr) {
				added = append(added, addr)
			}
		}
	}

	done, err := a.ensureNFT(ctx, conn, backend, k.Alive)
	add(done)
	if err != nil && (backend == NFTables || !errors.Is(err, nftconn.ErrUnsupported)) {
		return undo, err
	}
	done, err = a.ensureLegacy(ctx, k, backend)
	add(done)
	if err != nil {
		return undo, err
	}
	if backend == Firewalld {
		done, err = z.add(a.zone(), a.addresses())
		add(done)
	}
	return undo, err
}

// unavailable gives an error that firewalld does not run its code.
func unavailable(err error) error {
	if errors.Is(err, errNotRunning) {
		return cni.Errorf(cni.CodeUnavailable, "backend %s: %w", Firewalld, err)
	}
	return err
}

// zone returns the zone that addresses belong into.
func (a Admission) zone() string {
	if a.Zone == "" {
		return DefaultZone
	}
	return a.Zone
}

// zoneOf returns the zone from which an undo removes addresses, none with
// another back end than firewalld.
func (a Admission) zoneOf(b Backend) string {
	if b == Firewalld {
		return a.zone()
	}
	return ""
}

// adminChain returns the name of the user's chain.
func (a Admission) adminChain() string {
	if a.AdminChain == "" {
		return DefaultAdminChain
	}
	return a.AdminChain
}

// Diff reports what is missing. What the reference has admitted, or plumb with
// another back end than the configuration leads to now, is compared with what
// admitted it.
func (a Admission) Diff(ctx context.Context, r state.Reader) ([]state.Drift, error) {
	backend, z, err := choose(ctx, a.Backend)
	if errors.Is(err, errNotRunning) {
		return []state.Drift{a.drift("firewalld", "running", "not running")}, nil
	}
	if err != nil {
		return nil, err
	}
	defer z.close()
	drifts, err := a.diff(ctx, r, backend, z)
	if err != nil || len(drifts) == 0 {
		return nil, err
	}
	for _, other := range []Backend{Firewalld, IPTables, NFTables} {
		if other == backend || other == Firewalld && z == nil {
			continue
		}
		if d, err := a.diff(ctx, r, other, z); err == nil && len(d) == 0 {
			return nil, nil
		}
	}
	return drifts, nil
}

// diff compares with what a back end makes.
func (a Admission) diff(ctx context.Context, r state.Reader, b Backend, z *zones) ([]state.Drift, error) {
	conn, err := r.NFT()
	if err != nil {
		return nil, err
	}
	drifts, mine, err := a.diffNFT(ctx, conn, b)
	if err != nil && (b == NFTables || !errors.Is(err, nftconn.ErrUnsupported)) {
		return nil, err
	}
	legacy, err := a.diffLegacy(ctx, conn, b, mine)
	if err != nil {
		return nil, err
	}
	drifts = append(drifts, legacy...)
	if b == Firewalld {
		missing, err := z.missing(a.zone(), a.addresses())
		if err != nil {
			return nil, err
		}
		for _, addr := range missing {
			drifts = append(drifts, a.drift("source "+addr.String()+" of firewalld's zone "+a.zone(), "present", "missing"))
		}
	}
	return drifts, nil
}

// drift is a difference in one part.
func (a Admission) drift(field, want, got string) state.Drift {
	return state.Drift{Key: a.Key(), Field: field, Want: want, Got: got}
}
