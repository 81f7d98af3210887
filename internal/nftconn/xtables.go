package nftconn

import "golang.org/x/sys/unix"

// What iptables-nft writes beyond nftables' own expressions, so that its rules
// can be written without it.

// A Match is one of iptables'.
type Match struct {
	Name string
	Rev  uint32
	Info []byte // of the length that the kernel aligns it to
}

func (x Match) encode(e *encoder) (string, func()) {
	return "match", func() {
		e.str(unix.NFTA_MATCH_NAME, x.Name)
		e.u32(unix.NFTA_MATCH_REV, x.Rev)
		e.bytes(unix.NFTA_MATCH_INFO, x.Info)
	}
}

// Counter counts the packets that come by, as iptables wants of each rule.
// Where it is read it has no count.
type Counter struct{}

func (x Counter) encode(*encoder) (string, func()) { return "counter", func() {} }

// Ct loads a property of the packet's flow.
type Ct struct{ Key, Reg uint32 }

func (x Ct) encode(e *encoder) (string, func()) {
	return "ct", func() {
		e.u32(unix.NFTA_CT_KEY, x.Key)
		e.u32(unix.NFTA_CT_DREG, x.Reg)
	}
}
