// Package wire is what the dhcp plugin and its daemon say to each other: one
// request and one answer a connection, each a line of JSON. A caller that
// closes the connection before it has the answer takes the request back.
package wire

import (
	"encoding/json"
	"net"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/state"
)

// DefaultSocket is where the daemon listens if nobody says otherwise.
const DefaultSocket = "/run/cni/dhcp.sock"

// MaxLen is the longest line in bytes.
const MaxLen = 4 << 20

// VerbHeld asks which addresses an attachment holds.
const VerbHeld cni.Verb = "HELD"

// A Request is a verb of CNI, of which only these make sense to the daemon:
// ADD, CHECK, DEL, GC, STATUS and VerbHeld.
type Request struct {
	Verb  cni.Verb    `json:"verb"`
	Owner state.Owner `json:"owner"`

	// Where the interface is, for ADD and CHECK: the path, and what the
	// caller found there.
	NetNS   string   `json:"netns,omitempty"`
	Sandbox netns.ID `json:"sandbox"`

	Terms Terms `json:"terms"`

	// Previous are the addresses that CHECK expects.
	Previous []netip.Prefix `json:"previous,omitempty"`

	// Valid are the attachments that GC spares.
	Valid []cni.Attachment `json:"valid,omitempty"`
}

// Terms are what a configuration says about a lease.
type Terms struct {
	IPv4 bool `json:"ipv4"`
	IPv6 bool `json:"ipv6"`

	// Probe says that an IPv4 address is declined if somebody on the network
	// has it.
	Probe bool `json:"probe,omitempty"`

	// MAC is the hardware address that servers are told, nil for the
	// interface's.
	MAC net.HardwareAddr `json:"mac,omitempty"`

	Ask     []uint8  `json:"ask,omitempty"`     // codes of the options that are asked for
	Want    []uint8  `json:"want,omitempty"`    // those of them that the configuration names
	Provide []Option `json:"provide,omitempty"` // options that are sent
}

// An Option is an option of DHCPv4 (RFC 2132).
type Option struct {
	Code  uint8  `json:"code"`
	Value []byte `json:"value"`
}

// An Answer is an error, or what the verb has for a result.
type Answer struct {
	Code cni.Code `json:"code,omitempty"` // not 0 is an error
	Msg  string   `json:"msg,omitempty"`

	Result    json.RawMessage `json:"result,omitempty"`    // of ADD, in the form of cni.Latest
	Addresses []netip.Addr    `json:"addresses,omitempty"` // held, or released
}

// LeasesDir returns the folder in which the daemon at a socket keeps its
// leases: beside the socket, so that it is gone at boot as that is, and both
// sides find it.
func LeasesDir(socket string) string { return socket + ".leases" }

// LeaseFile returns the name of the file of an attachment's lease.
func LeaseFile(o state.Owner) string { return o.Hash() + ".json" }
