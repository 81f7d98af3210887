package cni

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
)

// A Result is what ADD reports (SPEC section 5, "ADD Success"), in the form of
// the newest specification whatever format it came in.
type Result struct {
	CNIVersion Version // of the format it was decoded from; Encode is told the format
	Interfaces []Interface
	IPs        []IP
	Routes     []Route
	DNS        DNS
}

// An Interface is a network interface that the attachment created or uses, in
// the container or on the host.
type Interface struct {
	Name       string
	MAC        string // as in "02:42:ac:11:00:02"; empty if it has none
	MTU        uint   // bytes; 0 if the result doesn't say
	Sandbox    string // CNI_NETNS for those in the container, empty for those on the host
	SocketPath string // of a vhost-user interface
	PCIID      string // address of the PCI device, such as "0000:00:1f.6"
}

// An IP is an address that the attachment got.
type IP struct {
	Address   netip.Prefix // with its host bits: 10.0.0.2/24
	Gateway   netip.Addr   // the zero Addr if there is none
	Interface *int         // index into Interfaces; nil if the result doesn't say
}

// formatJSON is what tells the format of a result.
type formatJSON struct {
	CNIVersion Version `json:"cniVersion"`
}

func (w *formatJSON) fields() []field { return []field{{key: "cniVersion", value: &w.CNIVersion}} }

// DecodeResult decodes a result of any version. The version is the one that
// data names, else assume, which a caller takes from the request; without
// either it is 0.1.0.
//
// Indexes of interfaces that old plugins are known to make up are dropped: -1,
// and any in a result without interfaces (spec-upgrades.md, "Handle missing
// data"). Errors are of CodeIncompatibleVersion for an unknown version, else of
// CodeDecode.
func DecodeResult(data []byte, assume Version) (*Result, error) {
	var probe formatJSON
	if err := Decode(data, &probe, "result"); err != nil {
		return nil, err
	}
	if probe.CNIVersion == "" {
		probe.CNIVersion = assume
	}
	v, err := ParseVersion(string(probe.CNIVersion))
	if err != nil {
		return nil, Errorf(CodeIncompatibleVersion, "decode result: %w", err)
	}

	var w interface {
		result(v Version) (*Result, error)
	}
	switch {
	case v.AtLeast(V100):
		w = new(resultV1)
	case v.AtLeast(V030):
		w = new(resultV03)
	default:
		w = new(resultV01)
	}
	if err := Decode(data, w, "result"); err != nil {
		return nil, err
	}
	r, err := w.result(v)
	if err != nil {
		return nil, Errorf(CodeDecode, "decode result: %w", err)
	}
	r.dropMadeUpIndexes()
	if err := r.Validate(); err != nil {
		return nil, Errorf(CodeDecode, "decode result: %w", err)
	}
	return r, nil
}

// Encode returns r as a plugin prints it for a request of version v. What the
// format of v has no place for is left out, as spec-upgrades.md says: before
// 1.0.0 MTU, SocketPath and PCIID of interfaces, before 0.3.0 all interfaces,
// the attributes of routes and all but the first address of each family.
//
// Errors are of CodeIncompatibleVersion for an unsupported version and of
// CodeInternal for an r that Validate refuses.
func (r *Result) Encode(v Version) ([]byte, error) {
	if _, err := ParseVersion(string(v)); err != nil || v == "" {
		return nil, Errorf(CodeIncompatibleVersion, "encode result: incompatible CNI version %q", v)
	}
	if err := r.Validate(); err != nil {
		return nil, Errorf(CodeInternal, "encode result: %w", err)
	}

	switch {
	case v.AtLeast(V100):
		return pretty(encodeValue(newResultV1(r, v)))
	case v.AtLeast(V030):
		return pretty(encodeValue(newResultV03(r, v)))
	}
	return json.MarshalIndent(newResultV01(r, v), "", indent)
}

// pretty returns JSON as plugins print it.
func pretty(data []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Indent(&b, data, "", indent)
	return b.Bytes(), err
}

// Clone returns a deep copy of r. The clone of nil is nil.
func (r *Result) Clone() *Result {
	if r == nil {
		return nil
	}
	c := *r
	c.Interfaces = slices.Clone(r.Interfaces)
	c.IPs = slices.Clone(r.IPs)
	for i := range c.IPs {
		c.IPs[i].Interface = clonePtr(c.IPs[i].Interface)
	}
	c.Routes = slices.Clone(r.Routes)
	for i := range c.Routes {
		c.Routes[i] = c.Routes[i].clone()
	}
	c.DNS = r.DNS.clone()
	return &c
}

// Validate returns the first mistake in r as a CodeDecode error: an address or
// destination that is missing, a negative attribute, an index out of range.
func (r *Result) Validate() error {
	for i, ip := range r.IPs {
		switch {
		case !ip.Address.IsValid():
			return Errorf(CodeDecode, "ips[%d]: address is missing", i)
		case ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(r.Interfaces)):
			return Errorf(CodeDecode, "ips[%d] %s: interface %d is not one of the %d interfaces",
				i, ip.Address, *ip.Interface, len(r.Interfaces))
		}
	}
	for i, route := range r.Routes {
		if err := route.validate(); err != nil {
			return Errorf(CodeDecode, "routes[%d]: %w", i, err)
		}
	}
	return nil
}

// dropMadeUpIndexes removes the references to interfaces that mean none.
func (r *Result) dropMadeUpIndexes() {
	for i, ip := range r.IPs {
		if ip.Interface != nil && (*ip.Interface == -1 || len(r.Interfaces) == 0) {
			r.IPs[i].Interface = nil
		}
	}
}
