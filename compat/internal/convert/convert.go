// Package convert makes results of one format from those of another, by plumb's
// codecs.
package convert

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/pkg/types"
)

// A Creator decodes a result of one format.
type Creator func(data []byte) (types.Result, error)

// creators are the formats that are linked into the program. Each package of one
// adds itself, since none of them can import all others.
var creators = map[string]Creator{}

// Register adds a format.
func Register(create Creator, versions ...string) {
	for _, v := range versions {
		creators[v] = create
	}
}

// Create decodes a result of that version.
func Create(version string, data []byte) (types.Result, error) {
	create, ok := creators[version]
	if !ok {
		return nil, fmt.Errorf("unsupported CNI result version %q", version)
	}
	return create(data)
}

// Convert converts a result to another version; "" is 0.1.0. A result that is of
// that version already is returned as it is.
func Convert(from types.Result, version string) (types.Result, error) {
	if version == "" {
		version = string(cni.V010)
	}
	if from.Version() == version {
		return from, nil
	}
	data, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	result, err := cni.DecodeResult(data, cni.Version(from.Version()))
	if err != nil {
		return nil, err
	}
	return From(result, version)
}

// From returns plumb's result as one of that version.
func From(result *cni.Result, version string) (types.Result, error) {
	data, err := result.Encode(cni.Version(version))
	if err != nil {
		return nil, err
	}
	return Create(version, data)
}

// A Format is what a package of results says of its own.
type Format struct {
	Newest   string   // of Versions: what a result is of that names none
	Versions []string // all that have this format
}

// Decode decodes a result into r, whose version has to be one of the format.
func (f Format) Decode(data []byte, r types.Result) (types.Result, error) {
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	if !slices.Contains(f.Versions, r.Version()) {
		return nil, fmt.Errorf("result type supports %v but unmarshalled CNIVersion is %q", f.Versions, r.Version())
	}
	return r, nil
}

// Convert converts a result of the format, whose version is at own, to another
// version; "" is 0.1.0. For one of the same format as makes a deep copy.
func (f Format) Convert(from types.Result, own *string, version string, as func(version string) types.Result) (types.Result, error) {
	if *own == "" {
		*own = f.Newest
	}
	if version != *own && version != "" && slices.Contains(f.Versions, version) {
		return as(version), nil
	}
	return Convert(from, version)
}

// Copies returns deep copies of the elements of a list.
func Copies[T interface{ Copy() T }](list []T) []T {
	var copies []T
	for _, one := range list {
		copies = append(copies, one.Copy())
	}
	return copies
}

// An IP is the form of an address in results, since 0.3.0.
type IP struct {
	Interface *int        `json:"interface,omitempty"`
	Address   types.IPNet `json:"address"`
	Gateway   net.IP      `json:"gateway,omitempty"`
}

// As converts a result to a version of the format of R.
func As[R types.Result](from types.Result, version string) (R, error) {
	var none R
	converted, err := from.GetAsVersion(version)
	if err != nil {
		return none, err
	}
	result, ok := converted.(R)
	if !ok {
		return none, fmt.Errorf("result of version %s is a %T, not a %T", version, converted, none)
	}
	return result, nil
}

// Print writes a result as plugins print it.
func Print(w io.Writer, r types.Result) error {
	data, err := json.MarshalIndent(r, "", "    ")
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}
