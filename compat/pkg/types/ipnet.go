package types

import (
	"encoding/json"
	"net"
)

// An IPNet is an address with its prefix that is a string in JSON:
// "10.0.0.2/24".
type IPNet net.IPNet

// ParseCIDR parses an address in CIDR notation and keeps its host bits, unlike
// net.ParseCIDR.
func ParseCIDR(s string) (*net.IPNet, error) {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		return nil, err
	}
	return &net.IPNet{IP: ip, Mask: n.Mask}, nil
}

// MarshalJSON returns the address as a JSON string.
func (n IPNet) MarshalJSON() ([]byte, error) {
	plain := net.IPNet(n)
	return json.Marshal(plain.String())
}

// UnmarshalJSON takes a JSON string in CIDR notation.
func (n *IPNet) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	plain, err := ParseCIDR(s)
	if err != nil {
		return err
	}
	*n = IPNet(*plain)
	return nil
}
