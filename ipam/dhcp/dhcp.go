// Package dhcp is the IPAM plugin dhcp: it gives the addresses that a DHCP
// server on the container's own network leases. A daemon (package daemon) asks
// for them and keeps them, as long as the container lives; the plugin speaks to
// the daemon.
package dhcp

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/ipam"
	"github.com/plumb-cni/plumb/ipam/dhcp/wire"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
)

type dhcp struct{}

var _ plugin.LinkUser = dhcp{}

// New returns the plugin.
func New() plugin.IPAM { return dhcp{} }

// A section is the section "ipam" of a configuration.
type section struct {
	// DaemonSocketPath is the daemon's socket; empty is wire.DefaultSocket.
	DaemonSocketPath string `json:"daemonSocketPath" schema:"is=path"`

	// Request are the options that the server is asked for.
	Request []struct {
		SkipDefault bool       `json:"skipDefault"` // none but those named
		Option      optionName `json:"option" schema:"number"`
	} `json:"request"`

	// Provide are options that the server is told.
	Provide []struct {
		Option  optionName `json:"option" schema:"number"`
		Value   string     `json:"value"`
		FromArg string     `json:"fromArg"` // a key of CNI_ARGS, before Value
	} `json:"provide"`

	// Priority is the metric of the routes; 0 leaves it to the kernel.
	Priority int `json:"priority" schema:"min=0"`

	// IPv4 asks by DHCPv4 (RFC 2131); unset means yes.
	IPv4 *bool `json:"ipv4"`

	// IPv6 asks by DHCPv6 (RFC 8415).
	IPv6 bool `json:"ipv6"`

	// MAC is the hardware address that the interface will have in the end,
	// if a later plugin sets it and the caller doesn't say.
	MAC string `json:"mac" schema:"is=mac"`
}

// macKeys are the keys by which a caller gives the hardware address.
type macKeys struct {
	Args struct {
		CNI struct {
			MAC string `json:"mac" schema:"is=mac"`
		} `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC string `json:"mac" schema:"is=mac"`
	} `json:"runtimeConfig"`
}

// Config implements plugin.IPAM.
func (dhcp) Config() reflect.Type {
	return reflect.TypeFor[struct {
		IPAM section `json:"ipam"`
		macKeys
	}]()
}

// Name implements plugin.IPAM.
func (dhcp) Name() string { return "dhcp" }

// NeedsLink implements plugin.LinkUser.
func (dhcp) NeedsLink() {}

// decode returns the section "ipam" of a call.
func decode(r *plugin.Request) (*section, error) {
	s := new(section)
	if err := ipam.Decode(r.Config.IPAM.Raw, s, "ipam"); err != nil {
		return nil, err
	}
	if s.DaemonSocketPath == "" {
		s.DaemonSocketPath = wire.DefaultSocket
	}
	if !filepath.IsAbs(s.DaemonSocketPath) {
		return nil, ipam.Invalid("ipam.daemonSocketPath", "it starts with a slash", "%q is not an absolute path", s.DaemonSocketPath)
	}
	return s, nil
}

// mac returns the hardware address that servers are to be told, nil for the
// interface's own: a server that ties an address to a hardware address has to
// know the one that the interface has in the end.
func mac(r *plugin.Request, s *section) (net.HardwareAddr, error) {
	var keys macKeys
	if err := ipam.Decode(r.Config.Args, &keys.Args, "args"); err != nil {
		return nil, err
	}
	if err := ipam.Decode(r.Config.RuntimeConfig, &keys.RuntimeConfig, "runtimeConfig"); err != nil {
		return nil, err
	}
	fromArgs, _ := r.Args.Get("MAC")
	for _, source := range []struct {
		key, value string
		code       cni.Code
	}{
		{"runtimeConfig.mac", keys.RuntimeConfig.MAC, cni.CodeInvalidConfig},
		{"args.cni.mac", keys.Args.CNI.MAC, cni.CodeInvalidConfig},
		{"MAC of CNI_ARGS", fromArgs, cni.CodeInvalidEnvironment},
		{"ipam.mac", s.MAC, cni.CodeInvalidConfig},
	} {
		if source.value == "" {
			continue
		}
		mac, err := net.ParseMAC(source.value)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return nil, cni.Errorf(source.code, "%s: %q is not the hardware address of an interface, which looks like \"c2:11:22:33:44:55\"", source.key, source.value)
		}
		return mac, nil
	}
	return nil, nil
}

// request returns what the daemon is told of a call.
func request(r *plugin.Request) (*section, wire.Request, error) {
	q := wire.Request{Verb: r.Verb, Owner: r.Owner, NetNS: r.NetNS}
	s, err := decode(r)
	if err != nil {
		return nil, q, err
	}
	q.Terms, err = terms(r, s)
	return s, q, err
}

// sandbox returns what tells the sandbox of a call from others, so that the
// daemon can tell whether it finds the same one at that path.
func sandbox(r *plugin.Request) (netns.ID, error) {
	k, err := state.OpenKernel(r.NetNS)
	if err != nil {
		return netns.ID{}, err
	}
	defer k.Close()
	id, err := k.SandboxID()
	if err != nil {
		return id, cni.Errorf(cni.CodeInvalidEnvironment, "CNI_NETNS %s: %w", r.NetNS, err)
	}
	return id, nil
}

// Add implements plugin.IPAM. Errors have cni.CodeInvalidConfig,
// cni.CodeInvalidEnvironment, cni.CodeTryAgain if no server answers, and
// cni.CodeUnavailable if the daemon doesn't.
func (dhcp) Add(ctx context.Context, r *plugin.Request) (*cni.Result, error) {
	s, q, err := request(r)
	if err != nil {
		return nil, err
	}
	if q.Sandbox, err = sandbox(r); err != nil {
		return nil, err
	}
	answer, err := call(ctx, s.DaemonSocketPath, q)
	if err != nil {
		return nil, err
	}
	result, err := cni.DecodeResult(answer.Result, cni.Latest)
	if err != nil {
		return nil, cni.Errorf(cni.CodeInternal, "the DHCP daemon's answer: %w", err)
	}
	result.CNIVersion = r.Config.CNIVersion
	if s.Priority != 0 {
		for i := range result.Routes {
			result.Routes[i].Priority = s.Priority
		}
	}
	return result, nil
}

// Check implements plugin.IPAM: the daemon keeps a lease of every address of
// prevResult that is the interface's. A lease that it doesn't know, because
// another daemon has got it, it takes up.
func (dhcp) Check(ctx context.Context, r *plugin.Request) error {
	s, q, err := request(r)
	if err != nil {
		return err
	}
	if q.Sandbox, err = sandbox(r); err != nil {
		return err
	}
	q.Previous = previous(r)
	_, err = call(ctx, s.DaemonSocketPath, q)
	return err
}

// previous returns the addresses that prevResult has for the call's interface.
func previous(r *plugin.Request) []netip.Prefix {
	if r.Config.PrevResult == nil {
		return nil
	}
	var prefixes []netip.Prefix
	for _, ip := range r.Config.PrevResult.IPs {
		if i := ip.Interface; i != nil {
			if of := r.Config.PrevResult.Interfaces[*i]; of.Name != r.IfName || of.Sandbox == "" {
				continue
			}
		}
		prefixes = append(prefixes, ip.Address)
	}
	return prefixes
}

// Held implements plugin.IPAM. A daemon that isn't there knows of none.
func (dhcp) Held(ctx context.Context, r *plugin.Request) ([]netip.Addr, error) {
	s, err := decode(r)
	if err != nil {
		return nil, nil
	}
	answer, err := call(ctx, s.DaemonSocketPath, wire.Request{Verb: wire.VerbHeld, Owner: r.Owner})
	if err != nil {
		return nil, nil
	}
	return answer.Addresses, nil
}

// Del implements plugin.IPAM. Without a daemon it succeeds if there is no lease
// to give back.
func (dhcp) Del(ctx context.Context, r *plugin.Request) ([]netip.Addr, error) {
	s, err := decode(r)
	if err != nil {
		s = &section{DaemonSocketPath: wire.DefaultSocket} // edited since
	}
	answer, err := call(ctx, s.DaemonSocketPath, wire.Request{Verb: cni.VerbDel, Owner: r.Owner})
	if err != nil {
		file := filepath.Join(wire.LeasesDir(s.DaemonSocketPath), wire.LeaseFile(r.Owner))
		if _, noLease := os.Lstat(file); os.IsNotExist(noLease) && unreachable(err) {
			return nil, nil
		}
		return nil, err
	}
	return answer.Addresses, nil
}

// GC implements plugin.IPAM.
func (dhcp) GC(ctx context.Context, r *plugin.Request) ([]netip.Addr, error) {
	s, err := decode(r)
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, s.DaemonSocketPath, wire.Request{Verb: cni.VerbGC, Owner: r.Owner, Valid: r.Config.Valid})
	if err != nil {
		return nil, err
	}
	return answer.Addresses, nil
}

// Status implements plugin.IPAM: cni.CodeUnavailable says that the daemon isn't
// there.
func (dhcp) Status(ctx context.Context, r *plugin.Request) error {
	s, q, err := request(r)
	if err != nil {
		return err
	}
	_, err = call(ctx, s.DaemonSocketPath, q)
	return err
}

// decodeAnswer returns the daemon's answer or the error that it is.
func decodeAnswer(line []byte) (*wire.Answer, error) {
	answer := new(wire.Answer)
	if err := json.Unmarshal(line, answer); err != nil {
		return nil, err
	}
	if answer.Code != 0 {
		return nil, cni.Errorf(answer.Code, "%s", answer.Msg)
	}
	return answer, nil
}
