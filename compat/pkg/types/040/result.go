// Package types040 is the result of versions 0.3.0, 0.3.1 and 0.4.0 of the
// specification.
package types040

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/internal/convert"
	"github.com/containernetworking/cni/pkg/types"
	_ "github.com/containernetworking/cni/pkg/types/020" // to convert to
)

// ImplementedSpecVersion is the newest version that has this format.
const ImplementedSpecVersion string = string(cni.V040)

var format = convert.Format{Newest: ImplementedSpecVersion, Versions: []string{string(cni.V030), string(cni.V031), ImplementedSpecVersion}}

func init() { convert.Register(NewResult, format.Versions...) }

// A Result is what ADD reports.
type Result struct {
	CNIVersion string         `json:"cniVersion,omitempty"`
	Interfaces []*Interface   `json:"interfaces,omitempty"`
	IPs        []*IPConfig    `json:"ips,omitempty"`
	Routes     []*types.Route `json:"routes,omitempty"`
	DNS        types.DNS      `json:"dns,omitempty"` // written when it is empty, as it always was
}

// An Interface is a network interface that the attachment created or uses.
type Interface struct {
	Name    string `json:"name"`
	Mac     string `json:"mac,omitempty"`
	Sandbox string `json:"sandbox,omitempty"` // CNI_NETNS for those in the container, empty for those on the host
}

// An IPConfig is an address that the attachment got.
type IPConfig struct {
	Version   string    // of IP: "4" or "6"
	Interface *int      // index into Interfaces; nil if the result doesn't say
	Address   net.IPNet // with its host bits
	Gateway   net.IP    // nil if there is none
}

// ipConfigJSON is the form of an IPConfig.
type ipConfigJSON struct {
	Version string `json:"version"`
	convert.IP
}

// NewResult decodes a result. It has to name a version of this format.
func NewResult(data []byte) (types.Result, error) {
	return format.Decode(data, new(Result))
}

// GetResult converts a result of any format to version 0.4.0.
func GetResult(r types.Result) (*Result, error) { return NewResultFromResult(r) }

// NewResultFromResult converts a result of any format to version 0.4.0.
func NewResultFromResult(result types.Result) (*Result, error) {
	return convert.As[*Result](result, ImplementedSpecVersion)
}

// Version is the version of the specification that r is of.
func (r *Result) Version() string { return r.CNIVersion }

// GetAsVersion converts r to a version of the specification; "" is 0.1.0. An r that
// names no version is of 0.4.0.
func (r *Result) GetAsVersion(version string) (types.Result, error) {
	return format.Convert(r, &r.CNIVersion, version, func(version string) types.Result {
		return &Result{version, convert.Copies(r.Interfaces), convert.Copies(r.IPs), convert.Copies(r.Routes), *r.DNS.Copy()}
	})
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
	return json.Marshal(ipConfigJSON{c.Version, convert.IP{Interface: c.Interface, Address: types.IPNet(c.Address), Gateway: c.Gateway}})
}

// UnmarshalJSON takes the form that MarshalJSON returns.
func (c *IPConfig) UnmarshalJSON(data []byte) error {
	var w ipConfigJSON
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*c = IPConfig{w.Version, w.Interface, net.IPNet(w.Address), w.Gateway}
	return nil
}
