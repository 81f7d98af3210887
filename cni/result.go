package cni

import (
	"errors"
	"net/netip"
)

var errTodo = errors.New("not written yet")

// A Result is what ADD reports.
type Result struct {
	CNIVersion Version
	Interfaces []Interface
	IPs        []IP
	Routes     []Route
	DNS        DNS
}

// An Interface is a network interface that the attachment made or uses.
type Interface struct {
	Name       string
	MAC        string
	MTU        uint
	Sandbox    string
	SocketPath string
	PCIID      string
}

// An IP is an address given to the container.
type IP struct {
	Address   netip.Prefix
	Gateway   netip.Addr
	Interface *int
}

// A Route is a route of the container.
type Route struct {
	Dst      netip.Prefix
	GW       netip.Addr
	MTU      int
	AdvMSS   int
	Priority int
	Table    *int
	Scope    *int
}

// DNS is a resolver configuration.
type DNS struct {
	Nameservers []string
	Domain      string
	Search      []string
	Options     []string
}

// IsZero reports whether d says nothing.
func (d DNS) IsZero() bool { return false }

// DecodeResult decodes a result of any version.
func DecodeResult(data []byte, assume Version) (*Result, error) { return nil, errTodo }

// Encode returns the result in the format of v.
func (r *Result) Encode(v Version) ([]byte, error) { return nil, errTodo }

// Clone returns a deep copy.
func (r *Result) Clone() *Result { return nil }

// Validate reports the first mistake in r.
func (r *Result) Validate() error { return nil }

// EncodeVersions returns the answer to VERSION.
func EncodeVersions(asked Version, supported []Version) []byte { return nil }

// DecodeVersions decodes the answer to VERSION.
func DecodeVersions(data []byte) ([]Version, error) { return nil, errTodo }
