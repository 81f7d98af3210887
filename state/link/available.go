package link

import (
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/tap"
	"github.com/plumb-cni/plumb/state"
)

// Available fails with cni.CodeUnavailable if the kernel can't make links of one
// of the kinds. It makes none.
func Available(r state.Reader, kinds ...string) error {
	conn, err := r.Route(state.Host)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		known, err := conn.Supports(kind)
		if err != nil {
			return cni.Errorf(cni.CodeUnavailable, "%w", err)
		}
		if !known {
			return Lacking(kind)
		}
	}
	return nil
}

// Lacking is the error of a kernel that has no links of a kind, of
// cni.CodeUnavailable.
func Lacking(kind string) *cni.Error {
	option, module := optionOf(kind)
	return cni.Errorf(cni.CodeUnavailable, "the kernel has no %s devices", kind).
		WithDetails("it needs " + option + ", module " + module + ": load that, or use a kernel that has it")
}

// optionOf returns the option of the kernel's configuration that a kind of links
// needs, and the module that it makes.
func optionOf(kind string) (option, module string) {
	switch kind {
	case "vlan":
		return "CONFIG_VLAN_8021Q", "8021q"
	case "vrf":
		return "CONFIG_NET_VRF", kind
	}
	return "CONFIG_" + strings.ToUpper(kind), kind
}

// TapsAvailable fails with cni.CodeUnavailable if no tap devices can be made.
func TapsAvailable() error {
	if err := tap.Available(); err != nil {
		return cni.Errorf(cni.CodeUnavailable, "%w", err).WithDetails(noTap)
	}
	return nil
}

const noTap = "it needs CONFIG_TUN, module tun, and the device file where plugins run"

// VLANsAvailable fails with cni.CodeUnavailable if the kernel's bridges can't tell
// VLANs apart.
func VLANsAvailable(r state.Reader) error {
	conn, err := r.Route(state.Host)
	if err != nil {
		return err
	}
	known, err := conn.SupportsVLANs()
	if err != nil {
		return cni.Errorf(cni.CodeUnavailable, "%w", err)
	}
	if !known {
		return cni.Errorf(cni.CodeUnavailable, "the kernel's bridges can't tell VLANs apart").
			WithDetails("it needs CONFIG_BRIDGE_VLAN_FILTERING: use a kernel that has it, or remove vlan and vlanTrunk")
	}
	return nil
}
