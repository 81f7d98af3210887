package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/iptables"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"golang.org/x/sys/unix"
)

const filterTable = "filter"

// Built-in chains and targets of iptables.
const (
	inputChain   = "INPUT"
	forwardChain = "FORWARD"
	targetAccept = "ACCEPT"
	targetDrop   = "DROP"
	targetReturn = "RETURN"
	targetReject = "REJECT"
)

// An xtRule is a rule of iptables' filter table that plumb knows how to write,
// in each of the two ways. Fields that are empty match everything. Equal rules
// compare as equal.
type xtRule struct {
	chain    string
	src, dst netip.Addr // of the whole address
	in, out  string
	notOut   string
	state    xtState
	service  xtService
	comment  string
	to       string // a chain or a target
	foreign  bool   // has what plumb does not write
}

// An xtState is the states of connections that a rule is about, as a match of
// connection tracking has them (linux/netfilter/xt_conntrack.h). Zero is all.
type xtState uint16

const (
	established xtState = 1<<1 | 1<<2 // answers, and what belongs to them
	published   xtState = 1 << 7      // what is translated to another destination
)

// String returns iptables' words for them.
func (s xtState) String() string {
	switch s {
	case established:
		return "RELATED,ESTABLISHED"
	case published:
		return "DNAT"
	}
	return ""
}

// An xtService is a port that packets go to.
type xtService struct {
	protocol uint8 // unix.IPPROTO_UDP or _TCP
	port     uint16
}

// name is that of the protocol, and of iptables' match of its ports.
func (s xtService) name() string {
	switch s.protocol {
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_TCP:
		return "tcp"
	}
	return ""
}

// xtPortsLen is the size of struct xt_udp and of struct xt_tcp, as the kernel
// aligns them. Both begin with the first and last of the source's and of the
// destination's ports; what follows is zero where nothing else is matched.
const xtPortsLen = 16

// match is what the kernel has of the port.
func (s xtService) match() nftconn.Match {
	info := make([]byte, xtPortsLen)
	for i, port := range []uint16{0, 0xffff, s.port, s.port} {
		binary.NativeEndian.PutUint16(info[2*i:], port)
	}
	return nftconn.Match{Name: s.name(), Info: info}
}

// readService decodes a match of a protocol's ports, if it is as match writes it.
func readService(protocol uint8, m nftconn.Match) (s xtService, ok bool) {
	if s.protocol = protocol; s.name() == "" || m.Name != s.name() || len(m.Info) < xtPortsLen {
		return s, false
	}
	s.port = binary.NativeEndian.Uint16(m.Info[4:])
	return s, bytes.Equal(m.Info[:xtPortsLen], s.match().Info)
}

// readXT decodes a rule. A match of connection tracking is known by its bytes.
func readXT(r nftconn.Rule, states map[xtState][]byte) xtRule {
	x := xtRule{chain: r.Chain, comment: r.Comment, to: r.Target()}
	if x.to == "" {
		x.to = r.Jump()
	}
	var loaded nftconn.Expr
	var protocol uint8
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case nftconn.Payload, nftconn.Meta:
			loaded = e
		case nftconn.Cmp:
			if loaded == nftconn.TransportProtocol(nftconn.Reg) && e.Op == nftconn.Equal && len(e.Data) == 1 {
				protocol = e.Data[0]
				continue
			}
			x.compare(loaded, e)
		case nftconn.Match:
			if s, ok := readService(protocol, e); ok {
				x.service = s
			} else {
				x.state = readState(e, states)
				x.foreign = x.foreign || x.state == 0
			}
		case nftconn.Counter:
		case nftconn.Verdict:
			x.foreign = x.foreign || e.Code == nftconn.Goto
		default:
			x.foreign = true
		}
	}
	x.foreign = x.foreign || protocol != x.service.protocol
	return x
}

// compare takes a comparison of what was loaded.
func (x *xtRule) compare(loaded nftconn.Expr, c nftconn.Cmp) {
	switch l := loaded.(type) {
	case nftconn.Payload:
		addr, whole := netip.AddrFromSlice(c.Data)
		f := nftconn.FamilyOf(addr)
		switch {
		case whole && c.Op == nftconn.Equal && l == nftconn.SourceAddr(f):
			x.src = addr
			return
		case whole && c.Op == nftconn.Equal && l == nftconn.DestinationAddr(f):
			x.dst = addr
			return
		}
	case nftconn.Meta:
		name := unix.ByteSliceToString(c.Data)
		whole := len(c.Data) > len(name) // without the NUL it is a beginning
		switch {
		case whole && c.Op == nftconn.Equal && l.Key == unix.NFT_META_IIFNAME:
			x.in = name
			return
		case whole && c.Op == nftconn.Equal && l.Key == unix.NFT_META_OIFNAME:
			x.out = name
			return
		case whole && c.Op == nftconn.NotEqual && l.Key == unix.NFT_META_OIFNAME:
			x.notOut = name
			return
		}
	}
	x.foreign = true
}

// words writes the rule as iptables takes it, without the chain.
func (x xtRule) words() string {
	var w []string
	add := func(present bool, words ...string) {
		if present {
			w = append(w, words...)
		}
	}
	add(x.src.IsValid(), "-s", x.src.String())
	add(x.dst.IsValid(), "-d", x.dst.String())
	add(x.in != "", "-i", x.in)
	add(x.out != "", "-o", x.out)
	add(x.notOut != "", "!", "-o", x.notOut)
	add(x.service.port != 0, "-p", x.service.name(), "-m", x.service.name(), "--dport", strconv.Itoa(int(x.service.port)))
	add(x.state != 0, "-m", "conntrack", "--ctstate", x.state.String())
	add(x.comment != "", "-m", "comment", "--comment", `"`+x.comment+`"`)
	add(true, "-j", x.to)
	return strings.Join(w, " ")
}

// rule writes the rule as iptables-nft does.
func (x xtRule) rule(f nftconn.Family) nftconn.Rule {
	var exprs []nftconn.Expr
	equal := func(load nftconn.Expr, op nftconn.Op, data []byte) {
		exprs = append(exprs, load, nftconn.Cmp{Op: op, Reg: nftconn.Reg, Data: data})
	}
	if x.src.IsValid() {
		equal(nftconn.SourceAddr(f), nftconn.Equal, x.src.AsSlice())
	}
	if x.dst.IsValid() {
		equal(nftconn.DestinationAddr(f), nftconn.Equal, x.dst.AsSlice())
	}
	in, out := nftconn.Meta{Key: unix.NFT_META_IIFNAME, Reg: nftconn.Reg}, nftconn.Meta{Key: unix.NFT_META_OIFNAME, Reg: nftconn.Reg}
	for _, name := range []struct {
		name string
		load nftconn.Meta
		op   nftconn.Op
	}{{x.in, in, nftconn.Equal}, {x.out, out, nftconn.Equal}, {x.notOut, out, nftconn.NotEqual}} {
		if name.name != "" {
			equal(name.load, name.op, append([]byte(name.name), 0))
		}
	}
	if x.service.port != 0 {
		equal(nftconn.TransportProtocol(nftconn.Reg), nftconn.Equal, []byte{x.service.protocol})
		exprs = append(exprs, x.service.match())
	}
	if x.state != 0 {
		exprs = append(exprs, nftconn.Match{Name: conntrackMatch, Rev: conntrackRev, Info: x.state.info()})
	}
	if x.comment != "" {
		info := make([]byte, commentLen)
		copy(info, x.comment)
		exprs = append(exprs, nftconn.Match{Name: "comment", Info: info})
	}
	exprs = append(exprs, nftconn.Counter{}, x.verdict())
	return nftconn.Rule{Table: filterOf(f), Chain: x.chain, Exprs: exprs, Protocol: x.service.protocol}
}

func (x xtRule) verdict() nftconn.Verdict {
	switch x.to {
	case targetAccept:
		return nftconn.Verdict{Code: nftconn.Accept}
	case targetDrop:
		return nftconn.Verdict{Code: nftconn.Drop}
	case targetReturn:
		return nftconn.Verdict{Code: nftconn.Return}
	}
	return nftconn.Verdict{Code: nftconn.Jump, Chain: x.to}
}

// commentLen is the size of struct xt_comment_info.
const commentLen = 256

// Of struct xt_conntrack_mtinfo3: sizes, and where the parts are that a match
// of states sets.
const (
	conntrackMatch   = "conntrack"
	conntrackRev     = 3
	conntrackLen     = 164
	conntrackAligned = 168
	matchFlagsAt     = 146
	stateMaskAt      = 150
)

// info is what `-m conntrack --ctstate` with the states is to the kernel.
func (s xtState) info() []byte {
	info := make([]byte, conntrackAligned)
	binary.NativeEndian.PutUint16(info[matchFlagsAt:], 1) // XT_CONNTRACK_STATE
	binary.NativeEndian.PutUint16(info[stateMaskAt:], uint16(s))
	return info
}

// stateMatches returns the bytes by which matches of states are known.
func stateMatches() map[xtState][]byte {
	matches := make(map[xtState][]byte)
	for _, s := range []xtState{established, published} {
		matches[s] = s.info()[:conntrackLen]
	}
	return matches
}

// readState decodes a match of states, 0 if it is none that plumb writes.
func readState(m nftconn.Match, states map[xtState][]byte) xtState {
	for s, info := range states {
		if m.Name == conntrackMatch && bytes.HasPrefix(m.Info, info) {
			return s
		}
	}
	return 0
}

func filterOf(f nftconn.Family) nftconn.Table { return nftconn.Table{Family: f, Name: filterTable} }

// An xtTable is what there is in iptables' filter table of a family, in one of
// the variants.
type xtTable struct {
	family  nftconn.Family
	variant iptables.Variant
	found   bool // the chain FORWARD
	drops   bool // its policy

	dropsInput bool // the policy of INPUT

	chains []string
	rules  []nftconn.Rule // of all chains that matter
	read   []xtRule       // the same, decoded when first asked for
	notes  []*noted       // whose rules of CNI-FORWARD matter
	made   []*madeRule    // by a change
}

func (x *xtTable) String() string {
	return fmt.Sprintf("iptables-%s %s", x.variant, filterOf(x.family))
}

// decoded returns the rules as plumb writes them, in their order.
func (x *xtTable) decoded() []xtRule {
	if x.read == nil {
		states := stateMatches()
		for _, r := range x.rules {
			x.read = append(x.read, readXT(r, states))
		}
	}
	return x.read
}

// of returns the rules of a chain.
func (x *xtTable) of(chain string) []xtRule {
	return slices.DeleteFunc(slices.Clone(x.decoded()), func(r xtRule) bool { return r.chain != chain })
}

// has tells whether there is such a rule.
func (x *xtTable) has(rule xtRule) bool { return slices.Contains(x.decoded(), rule) }

// index returns where in FORWARD all packets jump to a chain, or -1.
func (x *xtTable) index(to string) int {
	return slices.IndexFunc(x.of(forwardChain), func(r xtRule) bool {
		r.comment = ""
		return r == xtRule{chain: forwardChain, to: to}
	})
}

// filters tells whether rules or the policy may drop what is forwarded. That of
// CNI is not counted.
func (x *xtTable) filters() bool {
	return x.drops || slices.ContainsFunc(x.of(forwardChain), func(r xtRule) bool { return r.to != cniForward && r.to != stage1 })
}

// closes tells whether all that is forwarded and that no rule accepts is dropped,
// by the policy or by a rule of FORWARD.
func (x *xtTable) closes() bool {
	return x.drops || slices.ContainsFunc(x.rules, func(r nftconn.Rule) bool { return r.Chain == forwardChain && decides(r) == drops }) ||
		x.has(xtRule{chain: forwardChain, to: targetReject})
}

// An xtFound is a rule that was read.
type xtFound struct {
	xtRule
	rule nftconn.Rule
}

// An xtChange is what has to be done to an xtTable.
type xtChange struct {
	base   bool      // make the chain FORWARD
	chains []string  // to make
	remove []xtFound // to remove
	insert []xtRule  // each before all others of its chain
	add    []xtRule  // each behind
}

func (c *xtChange) empty() bool {
	return !c.base && c.chains == nil && c.remove == nil && c.insert == nil && c.add == nil
}

// guarded tells whether it must not be done if anybody has changed anything.
func (c *xtChange) guarded() bool {
	return c.base || c.chains != nil || c.remove != nil || c.insert != nil
}

// chain makes a chain unless it is there.
func (c *xtChange) chain(x *xtTable, name string) {
	if !slices.Contains(x.chains, name) {
		c.chains = append(c.chains, name)
	}
}

// into writes the change for iptables-nft, and makes the table know the handles
// of the rules that it makes.
func (c *xtChange) into(tx *nftconn.Tx, x *xtTable) {
	f := x.family
	made := func(r xtRule) {
		m := &madeRule{rule: r}
		x.made = append(x.made, m)
		tx.Told(&m.handle)
	}
	if c.base {
		tx.AddTable(filterOf(f))
		tx.AddChain(nftconn.Chain{Table: filterOf(f), Name: forwardChain, Hook: &nftconn.Hook{Type: "filter", Point: nftconn.Forward}})
	}
	for _, name := range c.chains {
		tx.AddChain(nftconn.Chain{Table: filterOf(f), Name: name})
	}
	for _, r := range c.remove {
		tx.DeleteRule(r.rule)
	}
	for _, r := range c.insert {
		tx.InsertRule(r.rule(f))
		made(r)
	}
	for _, r := range c.add {
		tx.AppendRule(r.rule(f))
		made(r)
	}
}

// script writes the change for iptables-restore, "" for none.
func (c *xtChange) script() string {
	if c.empty() {
		return ""
	}
	lines := []string{"*" + filterTable}
	for _, name := range c.chains {
		lines = append(lines, "-N "+name) // fails if there is one by now, where ":" would empty it
	}
	for _, r := range c.remove {
		lines = append(lines, "-D "+r.chain+" "+r.words())
	}
	for _, x := range c.insert {
		lines = append(lines, "-I "+x.chain+" 1 "+x.words())
	}
	for _, x := range c.add {
		lines = append(lines, "-A "+x.chain+" "+x.words())
	}
	return strings.Join(append(lines, "COMMIT\n"), "\n")
}
