// Package types020 is the result of versions 0.1.0 and 0.2.0 of the specification:
// one address of each family, each with its routes.
package types020

import (
	"encoding/json"
	"io"
	"net"
	"os"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/internal/convert"
	"github.com/containernetworking/cni/pkg/types"
)

// ImplementedSpecVersion is the newest version that has this format.
const ImplementedSpecVersion string = string(cni.V020)

var format = convert.Format{Newest: ImplementedSpecVersion, Versions: []string{"", string(cni.V010), ImplementedSpecVersion}}

func init() { convert.Register(NewResult, format.Versions...) }

// A Result is what ADD reports.
type Result struct {
	CNIVersion string    `json:"cniVersion,omitempty"`
	IP4        *IPConfig `json:"ip4,omitempty"`
	IP6        *IPConfig `json:"ip6,omitempty"`
	DNS        types.DNS `json:"dns,omitempty"` // written when it is empty, as it always was
}

// An IPConfig is an address that the attachment got.
type IPConfig struct {
	IP      net.IPNet // with its host bits
	Gateway net.IP    // nil if there is none
	Routes  []types.Route
}

// ipConfigJSON is the form of an IPConfig.
type ipConfigJSON struct {
	IP      types.IPNet   `json:"ip"`
	Gateway net.IP        `json:"gateway,omitempty"`
	Routes  []types.Route `json:"routes,omitempty"`
}

// NewResult decodes a result. One that names no version is of 0.1.0; any other
// version than 0.1.0 and 0.2.0 is an error.
func NewResult(data []byte) (types.Result, error) {
	r := new(Result)
	if _, err := format.Decode(data, r); err != nil {
		return nil, err
	}
	if r.CNIVersion == "" {
		r.CNIVersion = string(cni.V010)
	}
	return r, nil
}

// GetResult converts a result of any format to version 0.2.0.
func GetResult(r types.Result) (*Result, error) {
	return convert.As[*Result](r, ImplementedSpecVersion)
}

// Version is the version of the specification that r is of.
func (r *Result) Version() string { return r.CNIVersion }

// GetAsVersion converts r to a version of the specification; "" is 0.1.0. An r that
// names no version is of 0.2.0.
func (r *Result) GetAsVersion(version string) (types.Result, error) {
	return format.Convert(r, &r.CNIVersion, version, func(version string) types.Result {
		return &Result{version, r.IP4.Copy(), r.IP6.Copy(), *r.DNS.Copy()}
	})
}

// Print writes r as JSON to standard output.
func (r *Result) Print() error { return r.PrintTo(os.Stdout) }

// PrintTo writes r as JSON.
func (r *Result) PrintTo(writer io.Writer) error { return convert.Print(writer, r) }

// Copy returns a copy of i with routes of its own. The copy of nil is nil.
func (i *IPConfig) Copy() *IPConfig {
	if i == nil {
		return nil
	}
	c := &IPConfig{IP: i.IP, Gateway: i.Gateway}
	for _, route := range i.Routes {
		c.Routes = append(c.Routes, *route.Copy())
	}
	return c
}

// MarshalJSON returns the form of the specification.
func (c *IPConfig) MarshalJSON() ([]byte, error) {
	return json.Marshal(ipConfigJSON{types.IPNet(c.IP), c.Gateway, c.Routes})
}

// UnmarshalJSON takes the form that MarshalJSON returns.
func (c *IPConfig) UnmarshalJSON(data []byte) error {
	var w ipConfigJSON
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*c = IPConfig{net.IPNet(w.IP), w.Gateway, w.Routes}
	return nil
}
