package dhcp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/ipam"
	"github.com/plumb-cni/plumb/ipam/dhcp/wire"
	"github.com/plumb-cni/plumb/plugin"
)

// An optionName is an option of DHCPv4: a name, or a number that may be a
// string.
type optionName string

func (o *optionName) UnmarshalJSON(data []byte) error {
	var n json.Number
	if json.Unmarshal(data, &n) == nil {
		*o = optionName(n)
		return nil
	}
	return json.Unmarshal(data, (*string)(o))
}

// code returns the number of an option (RFC 2132 and its followers). The names
// are those of dhcp-options(5).
func (o optionName) code() (uint8, error) {
	switch o {
	case "subnet-mask":
		return 1, nil
	case "time-offset":
		return 2, nil
	case "routers":
		return 3, nil
	case "time-servers":
		return 4, nil
	case "domain-name-servers":
		return 6, nil
	case "log-servers":
		return 7, nil
	case "host-name":
		return 12, nil
	case "domain-name":
		return 15, nil
	case "root-path":
		return 17, nil
	case "interface-mtu":
		return 26, nil
	case "broadcast-address":
		return 28, nil
	case "static-routes":
		return 33, nil
	case "nis-domain":
		return 40, nil
	case "nis-servers":
		return 41, nil
	case "ntp-servers":
		return 42, nil
	case "vendor-encapsulated-options":
		return 43, nil
	case "netbios-name-servers":
		return 44, nil
	case "ip-address":
		return 50, nil
	case "dhcp-lease-time":
		return 51, nil
	case "dhcp-renewal-time":
		return 58, nil
	case "dhcp-rebinding-time":
		return 59, nil
	case "vendor-class-identifier":
		return 60, nil
	case "dhcp-client-identifier":
		return 61, nil
	case "tftp-server-name":
		return 66, nil
	case "bootfile-name":
		return 67, nil
	case "user-class":
		return 77, nil
	case "fqdn":
		return 81, nil
	case "domain-search":
		return 119, nil
	case "classless-static-routes":
		return 121, nil
	}
	n, err := strconv.ParseUint(string(o), 10, 8)
	if err != nil || n == 0 || n == 255 {
		return 0, fmt.Errorf("%q is not an option of DHCP", o)
	}
	return uint8(n), nil
}

const optionHint = "an option is a name of dhcp-options(5), such as host-name, or a number from 1 to 254"

// asked returns the options that are asked for: the subnet's mask and the
// routers, as by the reference, and what tells of DNS, unless skipDefault is
// set; and those that the configuration names, which are also returned alone.
func (s *section) asked() (codes, named []uint8, err error) {
	codes = []uint8{1, 3, 6, 15, 119}
	for _, r := range s.Request {
		if r.SkipDefault {
			codes = nil
		}
	}
	for i, r := range s.Request {
		if r.Option == "" {
			continue
		}
		code, err := r.Option.code()
		if err != nil {
			return nil, nil, ipam.Invalid(fmt.Sprintf("ipam.request[%d].option", i), optionHint, "%w", err)
		}
		named = append(named, code)
		if !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes, named, nil
}

// refused are options that are the protocol's own business.
func refused(code uint8) bool { return slices.Contains([]uint8{52, 53, 54, 55, 56, 57}, code) }

// provided returns the options that are sent. One whose argument the caller
// did not give is left out.
func (s *section) provided(args cni.Args) ([]wire.Option, error) {
	var options []wire.Option
	for i, p := range s.Provide {
		key := fmt.Sprintf("ipam.provide[%d]", i)
		code, err := p.Option.code()
		if err != nil {
			return nil, ipam.Invalid(key+".option", optionHint, "%w", err)
		}
		if refused(code) {
			return nil, ipam.Invalid(key+".option", "leave it to the client", "option %d belongs to the protocol", code)
		}
		value := p.Value
		if given, ok := args.Get(p.FromArg); ok && p.FromArg != "" {
			value = given
		}
		if value == "" {
			continue
		}
		if len(value) > 255 {
			return nil, ipam.Invalid(key, "shorten it", "the value has %d bytes, and an option has room for 255", len(value))
		}
		options = append(options, wire.Option{Code: code, Value: []byte(value)})
	}
	return options, nil
}

// terms returns what a call's configuration says about the lease.
func terms(r *plugin.Request, s *section) (wire.Terms, error) {
	t := wire.Terms{IPv4: s.IPv4 == nil || *s.IPv4, IPv6: s.IPv6}
	if !t.IPv4 && !t.IPv6 {
		return t, ipam.Invalid("ipam.ipv4", "leave it out, or set ipv6", "neither family is asked for")
	}
	if s.Priority < 0 {
		return t, ipam.Invalid("ipam.priority", "", "%d is negative", s.Priority)
	}
	var err error
	if t.MAC, err = mac(r, s); err != nil {
		return t, err
	}
	if t.Ask, t.Want, err = s.asked(); err != nil {
		return t, err
	}
	var whole struct {
		ACD bool `json:"acd"` // the interface plugin's
	}
	if err := json.Unmarshal(r.Config.Raw, &whole); err == nil { // what it can't be is for that plugin to say
		t.Probe = whole.ACD
	}
	t.Provide, err = s.provided(r.Args)
	return t, err
}
