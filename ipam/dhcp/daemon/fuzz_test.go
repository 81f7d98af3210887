package daemon

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// FuzzReply4 is what a server may send by DHCPv4: whatever it is, the daemon outlives it, and what it makes of it can
// be written and read.
func FuzzReply4(f *testing.F) {
	ack, err := dhcpv4.New(
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 2)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)), dhcpv4.WithDNS(net.IPv4(10, 0, 0, 1)), dhcpv4.WithDomainSearchList("a.b"),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))), dhcpv4.WithLeaseTime(60),
		dhcpv4.WithGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{24, 10, 1, 2, 10, 0, 0, 1, 0, 10, 0, 0, 1}),
		dhcpv4.WithGeneric(dhcpv4.OptionStaticRoutingTable, []byte{10, 1, 2, 0, 10, 0, 0, 1}),
	)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ack.ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := dhcpv4.FromBytes(data)
		if err != nil || !usable(m.YourIPAddr) {
			return
		}
		_, _, _ = m.MessageType(), m.ServerIdentifier(), m.Message()
		l, err := newLease4(m, nil, time.Now())
		if err != nil {
			return
		}
		written(t, l.describe4)
	})
}

// FuzzReply6 is the same for DHCPv6.
func FuzzReply6(f *testing.F) {
	c := client6{&record{Owner: state.Owner{Network: "n", ContainerID: "c", IfName: "eth0"}, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}}
	m, err := c.message(dhcpv6.MessageTypeReply, c.duid(), netip.AddrFrom16([16]byte{0xfd, 15: 2}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := dhcpv6.MessageFromBytes(data)
		if err != nil || m.Options.ServerID() == nil {
			return
		}
		l, err := c.lease(m, time.Now())
		if err != nil {
			_ = c.why(m)
			return
		}
		written(t, l.describe6)
	})
}

// written needs a result that a lease describes to be one that a plugin can read.
func written(t *testing.T, describe func(*cni.Result) error) {
	result := new(cni.Result)
	if describe(result) != nil {
		return
	}
	data, err := result.Encode(cni.Latest)
	if err != nil {
		return
	}
	if _, err := cni.DecodeResult(data, cni.Latest); err != nil {
		t.Errorf("%s: %v", data, err)
	}
}
