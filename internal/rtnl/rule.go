package rtnl

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Rule sends packets from an address to a routing table (ip-rule(8)).
type Rule struct {
	Src      netip.Prefix
	Table    int // 0 stands for any when a rule is deleted
	Priority int // 0 lets the kernel choose: before the rules that there are but that of the local table
}

// AddRule adds a rule. The error matches ErrExists if there is the same one.
func (c *Conn) AddRule(r Rule) error {
	if err := c.do(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ruleData(r)...); err != nil {
		return fmt.Errorf("add rule %s: %w", r, err)
	}
	return nil
}

// DelRule deletes the first rule that matches. The error matches ErrNotFound.
func (c *Conn) DelRule(r Rule) error {
	if err := c.do(unix.RTM_DELRULE, 0, ruleData(r)...); err != nil {
		return fmt.Errorf("delete rule %s: %w", r, err)
	}
	return nil
}

// ruleData returns the header, struct fib_rule_hdr of linux/fib_rules.h, which
// has the layout of struct rtmsg with the action in the place of the type, and
// the attributes.
func ruleData(r Rule) []nl.NetlinkRequestData {
	h := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family:  uint8(family(r.Src.Addr())),
		Src_len: uint8(r.Src.Bits()),
		Type:    unix.FR_ACT_TO_TBL,
	}}
	data := []nl.NetlinkRequestData{h, attr(unix.FRA_SRC, r.Src.Addr().AsSlice())}
	if r.Table != 0 {
		data = append(data, u32(unix.FRA_TABLE, uint32(r.Table)))
	}
	if r.Priority != 0 {
		data = append(data, u32(unix.FRA_PRIORITY, uint32(r.Priority)))
	}
	return data
}

// Rules returns the rules that send packets from an address or a subnet to a
// table, IPv4 first, in the kernel's order. The kernel has no filter for them.
func (c *Conn) Rules() ([]Rule, error) {
	var rules []Rule
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(f)}}
		msgs, err := c.get(unix.RTM_GETRULE, unix.NLM_F_DUMP, unix.RTM_NEWRULE, h)
		if err != nil {
			return nil, fmt.Errorf("list rules: %w", err)
		}
		for _, m := range msgs {
			r, err := parseRule(m)
			if err != nil {
				return nil, fmt.Errorf("list rules: %w", err)
			}
			if r.Src.IsValid() {
				rules = append(rules, r)
			}
		}
	}
	return rules, nil
}

// parseRule returns a rule, without Src if it is of another sort.
func parseRule(msg []byte) (Rule, error) {
	h := nl.DeserializeRtMsg(msg)
	r := Rule{Table: int(h.Table)}
	err := eachAttr(msg[h.Len():], func(kind uint16, v []byte) {
		switch kind {
		case unix.FRA_SRC:
			if src, ok := netip.AddrFromSlice(v); ok && h.Type == unix.FR_ACT_TO_TBL {
				r.Src = netip.PrefixFrom(src, int(h.Src_len))
			}
		case unix.FRA_TABLE:
			r.Table = num(v)
		case unix.FRA_PRIORITY:
			r.Priority = num(v)
		}
	})
	return r, err
}

// String writes the rule as ip-rule(8) does.
func (r Rule) String() string {
	s := "from " + r.Src.String()
	if r.Table != 0 {
		s += fmt.Sprintf(" lookup %d", r.Table)
	}
	return s
}
