package bridge

import (
	"cmp"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
	"github.com/plumb-cni/plumb/state/link"
)

// defaultBridge is the name of a bridge that no configuration names.
const defaultBridge = "cni0"

// A Config holds the keys of a bridge configuration.
type Config struct {
	_ struct{} `schema:"exclude=hairpinMode,promiscMode exclude=disableContainerInterface,ipam.type"`

	// Bridge is the name of the bridge; empty means cni0.
	Bridge string `json:"bridge" schema:"is=interface"`

	// IsGateway gives the bridge the gateway's address.
	IsGateway bool `json:"isGateway"`

	// IsDefaultGateway also routes everything of the container there.
	IsDefaultGateway bool `json:"isDefaultGateway"`

	// ForceAddress replaces an address of the bridge that is in the way.
	ForceAddress bool `json:"forceAddress"`

	// IPMasq hides the container's address from what lies outside its
	// subnet.
	IPMasq bool `json:"ipMasq"`

	// IPMasqBackend is "nftables" or "iptables"; empty takes nftables where
	// the kernel has it.
	IPMasqBackend string `json:"ipMasqBackend" schema:"enum=nftables|iptables"`

	// MTU of the pair's ends, and of the bridge if it is made now, in bytes;
	// 0 is the kernel's default.
	MTU int `json:"mtu" schema:"min=68 max=65535"`

	// HairpinMode lets a container reach itself through the bridge.
	HairpinMode bool `json:"hairpinMode"`

	// PromiscMode makes the bridge promiscuous.
	PromiscMode bool `json:"promiscMode"`

	// EnableDAD makes IPv6 addresses wait for duplicate address detection.
	EnableDAD bool `json:"enabledad"`

	// DisableContainerInterface leaves the container's end down.
	DisableContainerInterface bool `json:"disableContainerInterface"`

	// PortIsolation keeps containers from reaching each other through the
	// bridge.
	PortIsolation bool `json:"portIsolation"`

	// AcceptRA says whether the container listens to IPv6 router
	// advertisements. Unset is the kernel's default, but no if IPAM gives
	// an IPv6 address.
	AcceptRA *bool `json:"acceptRA"`

	// ACD makes IPv4 addresses wait for address conflict detection.
	ACD bool `json:"acd"`

	// DefaultRoute says what becomes of the container's default routes.
	DefaultRoute iface.DefaultRoute `json:"defaultRoute"`

	iface.MACKeys

	// MACSpoofChk drops what the container sends from another hardware
	// address than its interface's.
	MACSpoofChk bool `json:"macspoofchk"`

	// VLAN is the VLAN of what the container sends without a tag, 1 to 4094;
	// 0 leaves it in the bridge's default one.
	VLAN int `json:"vlan" schema:"min=1 max=4094"`

	// VLANTrunk are the VLANs that the container may send in by tags.
	VLANTrunk []Trunk `json:"vlanTrunk"`

	// PreserveDefaultVLAN lets a container with VLAN stay a member of the
	// bridge's default one as well.
	PreserveDefaultVLAN bool `json:"preserveDefaultVlan"`
}

// A Trunk is a VLAN, a range of them, or both.
type Trunk struct {
	ID    *int `json:"id" schema:"min=1 max=4094"`
	MinID *int `json:"minID" schema:"min=1 max=4094 with=maxID"`
	MaxID *int `json:"maxID" schema:"min=1 max=4094 with=minID"`
}

func (c *Config) bridge() string {
	if c.Bridge == "" {
		return defaultBridge
	}
	return c.Bridge
}

func (c *Config) gateway() bool { return c.IsGateway || c.IsDefaultGateway }

// filtersVLANs reports whether the bridge has to tell VLANs apart.
func (c *Config) filtersVLANs() bool { return c.VLAN != 0 || len(c.VLANTrunk) > 0 }

// vlanPort returns the name of the host's interface in the container's VLAN, or
// "" if that is the bridge itself.
func (c *Config) vlanPort() string {
	if c.VLAN == 0 || !c.gateway() {
		return ""
	}
	return link.VLANPortName(c.bridge(), c.VLAN)
}

// router returns the interface of the host that has the gateways' addresses.
func (c *Config) router() string { return cmp.Or(c.vlanPort(), c.bridge()) }

// trunk returns the VLANs of the trunk.
func (c *Config) trunk() ([]link.VLANRange, error) {
	var list []link.VLANRange
	for i, t := range c.VLANTrunk {
		if (t.MinID == nil) != (t.MaxID == nil) {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "vlanTrunk[%d] has minID or maxID; a range needs both", i)
		}
		if t.ID != nil {
			list = append(list, link.VLANRange{First: *t.ID, Last: *t.ID})
		}
		if t.MinID != nil {
			list = append(list, link.VLANRange{First: *t.MinID, Last: *t.MaxID})
		}
	}
	for _, r := range list {
		if !validVLAN(r.First) || !validVLAN(r.Last) || r.First > r.Last {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "vlanTrunk: %s is no VLAN or range of VLANs, which are numbered from 1 to %d", r, maxVLAN)
		}
	}
	return list, nil
}

// maxVLAN is the highest number of a VLAN (IEEE 802.1Q, which reserves 4095).
const maxVLAN = 4094

func validVLAN(id int) bool { return id >= 1 && id <= maxVLAN }

func (c *Config) validateVLANs() error {
	if c.VLAN != 0 && !validVLAN(c.VLAN) {
		return cni.Errorf(cni.CodeInvalidConfig, "vlan %d is out of range; VLANs are numbered from 1 to %d", c.VLAN, maxVLAN)
	}
	if name := c.vlanPort(); name != "" && cni.ValidateIfName(name) != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "the gateway in the VLAN needs an interface %q, a name of more than 15 bytes; choose a shorter bridge", name)
	}
	_, err := c.trunk()
	return err
}

func validate(c *Config, r *plugin.Request) error {
	if err := cni.ValidateIfName(c.bridge()); err != nil {
		return cni.Errorf(cni.CodeInvalidConfig, "bridge %q is not a name for an interface: 1 to 15 bytes without slash, colon and space", c.bridge())
	}
	if err := r.Args.Check(); err != nil {
		return err
	}
	if _, err := c.RequestedMAC(r, ""); err != nil {
		return err
	}
	if c.HairpinMode && c.PromiscMode {
		return cni.Errorf(cni.CodeInvalidConfig, "hairpinMode and promiscMode exclude each other; set one of them")
	}
	if c.DisableContainerInterface && r.Config.IPAM.Type != "" {
		return cni.Errorf(cni.CodeInvalidConfig, "disableContainerInterface leaves no interface to give addresses to; remove it, or ipam")
	}
	if c.IsDefaultGateway && c.DefaultRoute == "never" {
		return cni.Errorf(cni.CodeInvalidConfig, `isDefaultGateway asks for a default route, and "defaultRoute": "never" for none; remove one of them`)
	}
	if err := c.validateVLANs(); err != nil {
		return err
	}
	if err := iface.ValidateBackend(c.IPMasqBackend); err != nil {
		return err
	}
	if err := iface.ValidateDefaultRoute(c.DefaultRoute); err != nil {
		return err
	}
	return iface.ValidateMTU(c.MTU)
}
