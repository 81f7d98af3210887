// Package types100 is the result of versions 1.0.0 and 1.1.0 of the specification.
package types100

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/internal/convert"
	"github.com/containernetworking/cni/pkg/types"
	_ "github.com/containernetworking/cni/pkg/types/040" // to convert to
)

// ImplementedSpecVersion is the newest version that has this format.
const ImplementedSpecVersion string = string(cni.V110)

var format = convert.Format{Newest: ImplementedSpecVersion, Versions: []string{string(cni.V100), ImplementedSpecVersion}}

func init() { convert.Register(NewResult, format.Versions...) }

// A Result is what ADD reports.
type Result struct {
	CNIVersion string         `json:"cniVersion,omitempty"`
	Interfaces []*Interface   `json:"interfaces,omitempty"`
	IPs        []*IPConfig    `json:"ips,omitempty"`
	Routes     []*types.Route `json:"routes,omitempty"`
	DNS        types.DNS      `json:"dns,omitempty"` // see MarshalJSON
}

// An Interface is a network interface that the attachment created or uses.
type Interface struct {
	Name       string `json:"name"`
	Mac        string `json:"mac,omitempty"`
	Mtu        int    `json:"mtu,omitempty"`        // bytes; 0 if the result doesn't say
	Sandbox    string `json:"sandbox,omitempty"`    // CNI_NETNS for those in the container, empty for those on the host
	SocketPath string `json:"socketPath,omitempty"` // of a vhost-user interface
	PciID      string `json:"pciID,omitempty"`      // address of the PCI device, such as "0000:00:1f.6"
}

// An IPConfig is an address that the attachment got.
type IPConfig struct {
	Interface *int      // index into Interfaces; nil if the result doesn't say
	Address   net.IPNet // with its host bits
	Gateway   net.IP    // nil if there is none
}

// NewResult decodes a result. It has to name a version of this format.
func NewResult(data []byte) (types.Result, error) {
	return format.Decode(data, new(Result))
}

// GetResult converts a result of any format to version 1.1.0.
func GetResult(r types.Result) (*Result, error) { return NewResultFromResult(r) }

// NewResultFromResult converts a result of any format to version 1.1.0.
func NewResultFromResult(result types.Result) (*Result, error) {
	return convert.As[*Result](result, ImplementedSpecVersion)
}

// Version is the version of the specification that r is of.
func (r *Result) Version() string { return r.CNIVersion }

// GetAsVersion converts r to a version of the specification; "" is 0.1.0. An r that
// names no version is of 1.1.0.
func (r *Result) GetAsVersion(version string) (types.Result, error) {
	return format.Convert(r, &r.CNIVersion, version, func(version string) types.Result {
		return &Result{version, convert.Copies(r.Interfaces), convert.Copies(r.IPs), convert.Copies(r.Routes), *r.DNS.Copy()}
	})
}

// MarshalJSON encodes r with its keys in the order of their names, as plugins
// print them, and without the key dns if that section is empty.
func (r *Result) MarshalJSON() ([]byte, error) {
	shape := struct {
		CNIVersion string         `json:"cniVersion,omitempty"`
		DNS        *types.DNS     `json:"dns,omitempty"`
		Interfaces []*Interface   `json:"interfaces,omitempty"`
		IPs        []*IPConfig    `json:"ips,omitempty"`
		Routes     []*types.Route `json:"routes,omitempty"`
	}{r.CNIVersion, nil, r.Interfaces, r.IPs, r.Routes}
	if !r.DNS.IsEmpty() {
		shape.DNS = &r.DNS
	}
	return json.Marshal(shape)
}

// Print writes r as JSON to standard output.
func (r *Result) Print() error { return r.PrintTo(os.Stdout) }

// PrintTo writes r as JSON.
func (r *Result) PrintTo(writer io.Writer) error { return convert.Print(writer, r) }

// Int returns a pointer to v, for IPConfig.Interface.
func Int(v int) *int { return &v }

// Copy returns a copy of i. The copy of nil is nil.
func (i *Interface) Copy() *Interface {
	if i == nil {
		return nil
	}
	return new(*i)
}

// String returns i for people to read.
func (i *Interface) String() string { return fmt.Sprintf("%+v", *i) }

// Copy returns a copy of i. The copy of nil is nil.
func (i *IPConfig) Copy() *IPConfig {
	if i == nil {
		return nil
	}
	c := *i
	if i.Interface != nil {
		c.Interface = new(*i.Interface)
	}
	return &c
}

// String returns i for people to read.
func (i *IPConfig) String() string { return fmt.Sprintf("%+v", *i) }

// MarshalJSON returns the form of the specification.
func (c *IPConfig) MarshalJSON() ([]byte, error) {
	return json.Marshal(convert.IP{Interface: c.Interface, Address: types.IPNet(c.Address), Gateway: c.Gateway})
}

// UnmarshalJSON takes the form that MarshalJSON returns.
func (c *IPConfig) UnmarshalJSON(data []byte) error {
	var w convert.IP
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*c = IPConfig{w.Interface, net.IPNet(w.Address), w.Gateway}
	return nil
}
