package portmap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// Names of chains.
const (
	dispatchChain    = "portmap"
	preroutingChain  = "portmap-prerouting"
	outputChain      = "portmap-output"
	postroutingChain = "portmap-postrouting"
	nearChain        = "portmap-near"
)

// familyName is the name of the map of a family's single ports, and of its
// chain.
func familyName(f nftconn.Family) string {
	if f == nftconn.IPv4 {
		return "portmap4"
	}
	return "portmap6"
}

func addrType(f nftconn.Family) nftconn.Type {
	if f == nftconn.IPv4 {
		return nftconn.IPv4Addr
	}
	return nftconn.IPv6Addr
}

// A class is the mappings of a family that hold under the same conditions. The
// zero class of a family has none. It is known by its name in names of maps
// and chains.
type class struct {
	family     nftconn.Family
	name       string
	conditions []alternative
}

const classPrefix = "-if-"

// className returns the name that conditions have.
func className(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(conditions, " ")))
	return classPrefix + hex.EncodeToString(sum[:6])
}

func (c class) chain() string { return familyName(c.family) + c.name }

// singles is the map of single ports.
func (c class) singles() nftconn.Map {
	addr := addrType(c.family)
	return nftconn.Map{
		Table: nftconn.Own(), Name: familyName(c.family) + c.name,
		Key:  []nftconn.Type{nftconn.Protocol, addr, nftconn.Service},
		Data: []nftconn.Type{addr, nftconn.Service},
	}
}

// ranges is the map of runs of ports, which are the same on both sides.
func (c class) ranges() nftconn.Map {
	m := c.singles()
	m.Name = familyName(c.family) + "-range" + c.name
	m.Data = m.Data[:1]
	m.Interval = true
	return m
}

func (c class) mapOf(f forward) nftconn.Map {
	if f.run() {
		return c.ranges()
	}
	return c.singles()
}

// rules of a class: what is mapped of one address of the host goes before what
// is mapped of all.
func (c class) rules() []nftconn.Rule {
	alternatives := c.conditions
	if alternatives == nil {
		alternatives = []alternative{nil}
	}
	var rules []nftconn.Rule
	for _, conditions := range alternatives {
		for _, every := range []bool{false, true} {
			for _, m := range []nftconn.Map{c.singles(), c.ranges()} {
				rules = append(rules, nftconn.Rule{Exprs: slices.Concat(conditions, c.translate(m, every))})
			}
		}
	}
	return rules
}

// translate looks a packet's destination up, or, for what is mapped of every
// address, its port alone.
func (c class) translate(m nftconn.Map, every bool) []nftconn.Expr {
	addr := nftconn.DestinationAddr(c.family)
	addr.Reg = unix.NFT_REG32_01
	exprs := []nftconn.Expr{nftconn.TransportProtocol(nftconn.Reg), addr}
	if every {
		if c.family == nftconn.IPv6 {
			// ::1 is not one of every address, since it can't always be served.
			exprs = append([]nftconn.Expr{nftconn.DestinationAddr(c.family), nftconn.Cmp{Op: nftconn.NotEqual, Reg: nftconn.Reg, Data: netip.IPv6Loopback().AsSlice()}}, exprs...)
		}
		zero := make([]byte, addr.Len)
		exprs = append(exprs, nftconn.Bitwise{Reg: addr.Reg, Mask: zero, Xor: zero})
	}
	to := nftconn.DNAT{Family: c.family, AddrReg: nftconn.Reg}
	if !m.Interval {
		to.PortReg = nftconn.RegAfter(c.family)
	}
	return append(exprs,
		nftconn.DestinationPort(addr.Reg+addr.Len/4),
		nftconn.Translate{Map: m.Name, Key: nftconn.Reg, To: nftconn.Reg},
		to,
	)
}

// near is the set of the pairs of a source's prefix, of so many bits, and a
// container, whose flows need the host's address as their source.
func near(f nftconn.Family, bits int) nftconn.Map {
	addr := addrType(f)
	return nftconn.Map{Table: nftconn.Own(), Name: familyName(f) + "-near-" + strconv.Itoa(bits), Key: []nftconn.Type{addr, addr}}
}

func nearRule(f nftconn.Family, bits int) nftconn.Rule {
	length := anyOf(f).BitLen()
	to := nftconn.DestinationAddr(f)
	to.Reg = nftconn.RegAfter(f)
	exprs := append(nftconn.OfFamily(f), nftconn.SourceAddr(f))
	if bits < length {
		mask := nftconn.Mask(length, bits)
		exprs = append(exprs, nftconn.Bitwise{Reg: nftconn.Reg, Mask: mask, Xor: make([]byte, len(mask))})
	}
	return nftconn.Rule{Exprs: append(exprs, to, nftconn.Lookup{Map: near(f, bits).Name, Reg: nftconn.Reg}, nftconn.Masquerade{})}
}

// at is a set that is always empty: its name tells that ports of an address of
// the host are mapped, so that whoever maps one of every address knows where
// else to look.
func at(host netip.Addr) nftconn.Map {
	f := nftconn.FamilyOf(host)
	return nftconn.Map{Table: nftconn.Own(), Name: familyName(f) + "-at-" + hex.EncodeToString(host.AsSlice()), Key: []nftconn.Type{addrType(f)}}
}

// What the names of the table's maps tell.
type shared struct {
	classes map[nftconn.Family][]string
	hosts   map[nftconn.Family][]netip.Addr
	lengths map[nftconn.Family][]int
}

func readNames(names []string) shared {
	s := shared{
		classes: map[nftconn.Family][]string{nftconn.IPv4: {""}, nftconn.IPv6: {""}},
		hosts:   make(map[nftconn.Family][]netip.Addr),
		lengths: make(map[nftconn.Family][]int),
	}
	for _, f := range families() {
		for _, name := range names {
			rest, ok := strings.CutPrefix(name, familyName(f))
			if !ok {
				continue
			}
			if strings.HasPrefix(rest, classPrefix) {
				s.classes[f] = append(s.classes[f], rest)
			}
			if digits, ok := strings.CutPrefix(rest, "-at-"); ok {
				if raw, err := hex.DecodeString(digits); err == nil {
					if host, ok := netip.AddrFromSlice(raw); ok {
						s.hosts[f] = append(s.hosts[f], host)
					}
				}
			}
			if digits, ok := strings.CutPrefix(rest, "-near-"); ok {
				if bits, err := strconv.Atoi(digits); err == nil && bits <= anyOf(f).BitLen() {
					s.lengths[f] = append(s.lengths[f], bits)
				}
			}
		}
		slices.Sort(s.classes[f])
		slices.Sort(s.lengths[f])
	}
	return s
}

// maps returns all maps of ports that there are.
func (s shared) maps() (maps []nftconn.Map) {
	for _, f := range families() {
		for _, name := range s.classes[f] {
			c := class{family: f, name: name}
			maps = append(maps, c.singles(), c.ranges())
		}
	}
	return maps
}

// sources returns all sets of pairs that there are.
func (s shared) sources() (sets []nftconn.Map) {
	for _, f := range families() {
		for _, bits := range s.lengths[f] {
			sets = append(sets, near(f, bits))
		}
	}
	return sets
}

// related returns the addresses of the host under which a port may be mapped
// already.
func (s shared) related(host netip.Addr) []netip.Addr {
	f := nftconn.FamilyOf(host)
	if host.IsUnspecified() {
		return append([]netip.Addr{host}, s.hosts[f]...)
	}
	return []netip.Addr{host, anyOf(f)}
}

// tables is what there is of what attachments share.
type tables struct {
	gen   nftconn.Generation
	table nftconn.TableQuery
	bases []*nftconn.ChainQuery // in the order of baseChains
	rules nftconn.RulesQuery
	names nftconn.MapsQuery
}

// A base is a chain where packets come by.
type base struct {
	name string
	hook nftconn.Hook
}

func baseChains() []base {
	return []base{
		{preroutingChain, nftconn.Hook{Type: "nat", Point: nftconn.Prerouting, Priority: nftconn.DstNAT}},
		{outputChain, nftconn.Hook{Type: "nat", Point: nftconn.Output, Priority: nftconn.DstNAT}},
		{postroutingChain, nftconn.Hook{Type: "nat", Point: nftconn.Postrouting, Priority: nftconn.SrcNAT}},
	}
}

func readTables(ctx context.Context, r nftconn.Reader, others ...nftconn.Query) (*tables, error) {
	t := &tables{
		table: nftconn.TableQuery{Table: nftconn.Own()},
		rules: nftconn.RulesQuery{Table: nftconn.Own()},
		names: nftconn.MapsQuery{Table: nftconn.Own()},
	}
	queries := append(others, &t.table, &t.rules, &t.names)
	for _, b := range baseChains() {
		q := &nftconn.ChainQuery{Table: nftconn.Own(), Name: b.name}
		t.bases, queries = append(t.bases, q), append(queries, q)
	}
	var err error
	t.gen, err = r.Read(ctx, queries...)
	return t, err
}

func (t *tables) chain(name string) []nftconn.Rule {
	var rules []nftconn.Rule
	for _, r := range t.rules.Rules {
		if r.Chain == name {
			rules = append(rules, r)
		}
	}
	return rules
}

// chains returns the chains as they should be, where those lead that others
// lead to first: for the classes and prefixes that others use, and those that an
// attachment does.
func (p Portmap) chains(s shared) []nftconn.Chain {
	var chains []nftconn.Chain
	add := func(name string, hook *nftconn.Hook, rules ...nftconn.Rule) {
		chains = append(chains, nftconn.Chain{Table: nftconn.Own(), Name: name, Hook: hook, Rules: rules})
	}
	var dispatch, sources []nftconn.Rule
	for _, f := range families() {
		own, known := p.class(f), s.classes[f]
		if !slices.Contains(known, own.name) {
			known = append(slices.Clone(known), own.name)
			slices.Sort(known)
		}
		add(class{family: f}.chain(), nil, class{family: f}.rules()...)
		if own.name != "" {
			add(own.chain(), nil, own.rules()...)
		}
		for _, name := range known {
			dispatch = append(dispatch, nftconn.Rule{Exprs: append(nftconn.OfFamily(f), nftconn.Verdict{Code: nftconn.Jump, Chain: familyName(f) + name})})
		}
		for _, bits := range p.lengths(s, f) {
			sources = append(sources, nearRule(f, bits))
		}
	}
	add(dispatchChain, nil, dispatch...)
	add(nearChain, nil, sources...)
	jump := func(to string, exprs []nftconn.Expr) nftconn.Rule {
		return nftconn.Rule{Exprs: append(exprs, nftconn.Verdict{Code: nftconn.Jump, Chain: to})}
	}
	rules := []nftconn.Rule{
		jump(dispatchChain, nftconn.ToLocal()),
		jump(dispatchChain, nftconn.ToLocal()),
		jump(nearChain, nftconn.Redirected()),
	}
	for i, b := range baseChains() {
		add(b.name, &b.hook, rules[i])
	}
	return chains
}

// lengths returns the lengths of sources' prefixes that others and p use.
func (p Portmap) lengths(s shared, f nftconn.Family) []int {
	lengths := slices.Clone(s.lengths[f])
	for _, pair := range p.pairs() {
		if nftconn.FamilyOf(pair.to) == f && !slices.Contains(lengths, pair.from.Bits()) {
			lengths = append(lengths, pair.from.Bits())
		}
	}
	slices.Sort(lengths)
	return lengths
}

// A defect is a difference in what attachments share.
type defect struct{ part, want, got string }

// defects returns what keeps p's mappings from working although its elements
// are there.
func (t *tables) defects(p Portmap) (found []defect) {
	own := nftconn.Own().String()
	if !t.table.Found {
		return []defect{{"table " + own, "present", "missing"}}
	}
	if t.table.Dormant {
		found = append(found, defect{"table " + own, "awake", "dormant"})
	}
	for i, b := range baseChains() {
		switch q := t.bases[i]; {
		case !q.Found:
			found = append(found, defect{"chain " + own + " " + b.name, "present", "missing"})
		case q.Hook == nil || *q.Hook != b.hook:
			found = append(found, defect{"hook of chain " + own + " " + b.name, b.hook.String(), q.Hook.String()})
		}
	}
	for _, m := range p.maps() {
		if !slices.Contains(t.names.Names, m.Name) {
			found = append(found, defect{"map " + m.String(), "present", "missing"})
		}
	}
	for _, c := range p.chains(readNames(t.names.Names)) {
		if rules := t.chain(c.Name); !slices.EqualFunc(rules, c.Rules, nftconn.Rule.Equal) {
			found = append(found, defect{"rules of chain " + c.String(), fmt.Sprintf("%d as plumb makes them", len(c.Rules)), fmt.Sprintf("%d with others", len(rules))})
		}
	}
	return found
}

// maps returns the maps and sets that p needs.
func (p Portmap) maps() []nftconn.Map {
	var maps []nftconn.Map
	for _, f := range families() {
		maps = append(maps, class{family: f}.singles(), class{family: f}.ranges())
		if own := p.class(f); own.name != "" {
			maps = append(maps, own.singles(), own.ranges())
		}
	}
	var names []string
	add := func(m nftconn.Map) {
		if !slices.Contains(names, m.Name) {
			names, maps = append(names, m.Name), append(maps, m)
		}
	}
	for _, fwd := range p.forwards {
		if !fwd.host.IsUnspecified() {
			add(at(fwd.host))
		}
	}
	for _, pair := range p.pairs() {
		add(near(nftconn.FamilyOf(pair.to), pair.from.Bits()))
	}
	return maps
}

// mend adds to a transaction what makes good the defects. It keeps what others
// need, so it depends on what was read.
func (t *tables) mend(tx *nftconn.Tx, p Portmap) {
	tx.AddTable(nftconn.Own())
	for _, m := range p.maps() {
		tx.AddMap(m)
	}
	for i, b := range baseChains() {
		if q := t.bases[i]; q.Found && (q.Hook == nil || *q.Hook != b.hook) {
			tx.DeleteChain(nftconn.Own(), b.name)
		}
	}
	for _, c := range p.chains(readNames(t.names.Names)) {
		tx.SetChain(c)
	}
}

// An entry is an element with its map.
type entry struct {
	in nftconn.Map
	nftconn.Element
}

// entries returns the elements that p is.
func (p Portmap) entries() []entry {
	tag := p.Owner.Tag()
	list := make([]entry, 0, len(p.forwards)+4)
	classes := map[nftconn.Family]class{nftconn.IPv4: p.class(nftconn.IPv4), nftconn.IPv6: p.class(nftconn.IPv6)}
	for _, f := range p.forwards {
		list = append(list, entry{classes[f.family()].mapOf(f), f.element(tag)})
	}
	for _, pair := range p.pairs() {
		list = append(list, entry{near(nftconn.FamilyOf(pair.to), pair.from.Bits()), nftconn.Element{
			Key: nftconn.Concat(pair.from.Addr().AsSlice(), pair.to.AsSlice()), Comment: tag,
		}})
	}
	return list
}

// occupied returns the elements that are where entries of p want to be, or that
// hold ports of theirs under other conditions or another address of the host.
// The kernel refuses a run that begins or ends in another, but not one around
// it: for a run, all runs are looked through.
func (p Portmap) occupied(ctx context.Context, r nftconn.Reader, s shared) ([]entry, error) {
	var asked []*nftconn.ElementQuery
	ask := func(m nftconn.Map, key []byte) {
		asked = append(asked, &nftconn.ElementQuery{Map: m, Key: key})
	}
	maps := make(map[nftconn.Family][][2]nftconn.Map)
	for _, f := range families() {
		for _, name := range s.classes[f] {
			c := class{family: f, name: name}
			maps[f] = append(maps[f], [2]nftconn.Map{c.singles(), c.ranges()})
		}
	}
	for _, f := range p.forwards {
		for _, m := range maps[f.family()] {
			singles, ranges := m[0], m[1]
			for _, host := range s.related(f.host) {
				for port := int(f.first); port <= int(f.last) && f.ports() < longRun; port++ {
					ask(singles, key(f.protocol, host, uint16(port)))
				}
				if !f.run() {
					ask(ranges, key(f.protocol, host, f.first))
				}
			}
		}
	}
	for _, e := range p.entries()[len(p.forwards):] {
		ask(e.in, e.Key)
	}
	if _, err := lookUp(ctx, r, asked); err != nil {
		return nil, err
	}
	var found []entry
	seen := make(map[string]bool)
	add := func(m nftconn.Map, x nftconn.Element) {
		if id := m.Name + string(x.Key) + string(x.KeyEnd); !seen[id] {
			seen[id] = true
			found = append(found, entry{m, x})
		}
	}
	for _, q := range asked {
		if q.Element != nil {
			add(q.Map, *q.Element)
		}
	}
	for _, m := range s.maps() {
		shortest := longRun
		if m.Interval {
			shortest = 2
		}
		against := slices.DeleteFunc(slices.Clone(p.forwards), func(f forward) bool { return f.ports() < shortest })
		if len(against) == 0 {
			continue
		}
		_, err := elements(ctx, r, []nftconn.Map{m}, func(e entry) bool {
			if held, ok := ofElement(familyOfMap(m), e.Element); ok && slices.ContainsFunc(against, held.overlaps) {
				add(m, e.Element)
			}
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// longRun is the number of ports of a run from which on looking through the
// single ports of everybody is cheaper than asking for each of its own.
const longRun = 500

func familyOfMap(m nftconn.Map) nftconn.Family {
	if strings.HasPrefix(m.Name, familyName(nftconn.IPv4)) {
		return nftconn.IPv4
	}
	return nftconn.IPv6
}

// ensureElements makes everything be there that p needs, in one transaction,
// and returns the elements that were added.
func (p Portmap) ensureElements(ctx context.Context, k *state.Kernel) (added []entry, err error) {
	c, err := k.NFT()
	if err != nil {
		return nil, err
	}
	err = nftconn.Retry(ctx, func() error {
		t, err := readTables(ctx, c)
		if err != nil {
			return err
		}
		tx := new(nftconn.Tx)
		tx.Guard(t.gen)
		if t.defects(p) != nil {
			t.mend(tx, p)
		}
		var found []entry
		if t.table.Found {
			if found, err = p.occupied(ctx, c, readNames(t.names.Names)); err != nil {
				return err
			}
		}
		if added, err = p.replace(tx, found, k.Alive); err != nil {
			return err
		}
		return c.CommitInto(ctx, &t.table, tx)
	})
	return added, err
}

// replace adds to a transaction the elements that are missing, and the deletion
// of what is in their way and belongs to nobody any more. What another interface
// of the same container has it leaves there.
func (p Portmap) replace(tx *nftconn.Tx, found []entry, alive func(string) (bool, error)) (added []entry, err error) {
	tag := p.Owner.Tag()
	want := p.entries()
	index := make(map[string]nftconn.Element, len(found))
	byMap := make(map[string][]nftconn.Element)
	lives := make(map[string]bool)
	blocked := make(map[string]bool)
	for _, e := range found {
		id := e.in.Name + string(e.Key) + string(e.KeyEnd)
		if e.Comment == tag {
			index[id] = e.Element
			continue
		}
		if o, ok := state.ParseTag(e.Comment); ok && o.ContainerID == p.ownID() {
			blocked[id] = true
			continue
		}
		living, known := lives[e.Comment]
		if !known && alive != nil {
			if living, err = alive(e.Comment); err != nil {
				return nil, err
			}
			lives[e.Comment] = living
		}
		if living {
			return nil, heldBy(describe(e), ownerName(e.Comment))
		}
		tx.Delete(e.in, e.Element)
	}
	for _, e := range want {
		id := e.in.Name + string(e.Key) + string(e.KeyEnd)
		if blocked[id] {
			continue
		}
		if x, ok := index[id]; ok {
			if string(x.Data) == string(e.Data) {
				delete(index, id)
				continue
			}
			tx.Delete(e.in, x)
		}
		delete(index, id)
		added = append(added, e)
		byMap[e.in.Name] = append(byMap[e.in.Name], e.Element)
	}
	for _, m := range distinctMaps(added) {
		tx.AddElements(m, byMap[m.Name]...)
	}
	return added, nil
}

func distinctMaps(entries []entry) (maps []nftconn.Map) {
	seen := make(map[string]bool)
	for _, e := range entries {
		if !seen[e.in.Name] {
			seen[e.in.Name] = true
			maps = append(maps, e.in)
		}
	}
	return maps
}

// describe names what an element is.
func describe(e entry) string {
	if f, ok := ofElement(familyOfMap(e.in), e.Element); ok {
		return f.String()
	}
	return "an address of the container" // whose flows from nearby are masqueraded
}

// diffElements compares with what ensureElements makes. mine tells whether any
// element is the owner's.
func (p Portmap) diffElements(ctx context.Context, r nftconn.Reader) (drifts []state.Drift, mine bool, err error) {
	want := p.entries()
	asked := make([]*nftconn.ElementQuery, len(want))
	for i, e := range want {
		asked[i] = &nftconn.ElementQuery{Map: e.in, Key: e.Key}
	}
	t, err := readTables(ctx, r)
	if err == nil {
		_, err = lookUp(ctx, r, asked)
	}
	if err != nil {
		return nil, false, err
	}
	for _, d := range t.defects(p) {
		drifts = append(drifts, p.drift(d.part, d.want, d.got))
	}
	for i, q := range asked {
		part := "element " + q.Map.String() + " " + p.part(i)
		switch x := q.Element; {
		case x == nil:
			drifts = append(drifts, p.drift(part, "present", "missing"))
		case x.Comment != p.Owner.Tag():
			if o, ok := state.ParseTag(x.Comment); !ok || o.ContainerID != p.ownID() {
				drifts = append(drifts, p.drift("owner of "+part, p.Owner.Tag(), x.Comment))
			}
		case string(x.Data) != string(want[i].Data) || string(x.KeyEnd) != string(want[i].KeyEnd):
			mine = true
			drifts = append(drifts, p.drift("value of "+part, hex.EncodeToString(want[i].Data), hex.EncodeToString(x.Data)))
		default:
			mine = true
		}
	}
	return drifts, mine, nil
}

// part names the i-th entry.
func (p Portmap) part(i int) string {
	if i < len(p.forwards) {
		return p.forwards[i].String()
	}
	pair := p.pairs()[i-len(p.forwards)]
	return pair.from.String() + " . " + pair.to.String()
}

// An owned says whose elements to remove: those with a tag that hold certain
// ports, or, if claims is nil, all with the tag.
type owned struct {
	tag    string
	claims []forward
	addrs  []netip.Addr // the container's, as far as known
}

// find returns the elements.
func (o owned) find(ctx context.Context, r nftconn.Reader, names []string) (mine []entry, err error) {
	s := readNames(names)
	if o.claims == nil {
		return elements(ctx, r, append(s.maps(), s.sources()...), func(e entry) bool { return e.Comment == o.tag })
	}
	var asked []*nftconn.ElementQuery
	for _, f := range o.claims {
		for _, name := range s.classes[f.family()] {
			m := class{family: f.family(), name: name}.mapOf(f)
			asked = append(asked, &nftconn.ElementQuery{Map: m, Key: key(f.protocol, f.host, f.first)})
		}
	}
	for _, set := range s.sources() {
		for _, pair := range o.pairs(set) {
			asked = append(asked, &nftconn.ElementQuery{Map: set, Key: pair})
		}
	}
	if _, err := lookUp(ctx, r, asked); err != nil {
		return nil, err
	}
	for _, q := range asked {
		if q.Element != nil && q.Element.Comment == o.tag {
			mine = append(mine, entry{q.Map, *q.Element})
		}
	}
	return mine, nil
}

// pairs returns the keys that the container's addresses may have in a set of
// pairs: of their own subnets, the host's loopback, or everything.
func (o owned) pairs(set nftconn.Map) (keys [][]byte) {
	f := familyOfMap(set)
	_, digits, _ := strings.Cut(set.Name, "-near-")
	bits, _ := strconv.Atoi(digits)
	for _, a := range o.addrs {
		if nftconn.FamilyOf(a) != f {
			continue
		}
		for _, from := range []netip.Addr{a, loopback(f).Addr()} {
			p, err := from.Prefix(bits)
			if err != nil {
				continue
			}
			pair := nftconn.Concat(p.Addr().AsSlice(), a.AsSlice())
			if n := len(keys); n == 0 || string(keys[n-1]) != string(pair) {
				keys = append(keys, pair)
			}
		}
	}
	return keys
}

// bulk is the number of look-ups from which on one listing of the maps is
// cheaper, whoever's the elements are: each look-up is answered by a message of
// its own.
const bulk = 2000

// lookUp answers queries, by one look each or by listing the maps.
func lookUp(ctx context.Context, r nftconn.Reader, asked []*nftconn.ElementQuery) (nftconn.Generation, error) {
	if len(asked) <= bulk {
		queries := make([]nftconn.Query, len(asked))
		for i, q := range asked {
			queries[i] = q
		}
		return r.Read(ctx, queries...)
	}
	lists := make(map[string]*nftconn.ElementsQuery)
	var queries []nftconn.Query
	for _, q := range asked {
		if lists[q.Map.Name] == nil {
			list := &nftconn.ElementsQuery{Map: q.Map}
			lists[q.Map.Name], queries = list, append(queries, list)
		}
	}
	gen, err := r.Read(ctx, queries...)
	if err != nil {
		return gen, err
	}
	found := make(map[string]map[string]*nftconn.Element, len(lists))
	for name, list := range lists {
		byKey := make(map[string]*nftconn.Element, len(list.Elements))
		for i, x := range list.Elements {
			byKey[string(x.Key)] = &list.Elements[i]
		}
		found[name] = byKey
	}
	for _, q := range asked {
		if q.Element = found[q.Map.Name][string(q.Key)]; q.Element == nil && q.Map.Interval {
			q.Element = around(lists[q.Map.Name].Elements, q.Key)
		}
	}
	return gen, nil
}

// around returns the run that a key is in: of one protocol and address, so that
// keys compare as their ports do.
func around(runs []nftconn.Element, key []byte) *nftconn.Element {
	for i, x := range runs {
		if string(x.Key[:len(x.Key)-4]) == string(key[:len(key)-4]) && string(x.Key) <= string(key) && string(key) <= string(x.KeyEnd) {
			return &runs[i]
		}
	}
	return nil
}

// elements looks through maps.
func elements(ctx context.Context, r nftconn.Reader, maps []nftconn.Map, wanted func(entry) bool) (found []entry, err error) {
	for _, m := range maps {
		list := nftconn.ElementsQuery{Map: m}
		if _, err := r.Read(ctx, &list); err != nil {
			return nil, err
		}
		for _, x := range list.Elements {
			if e := (entry{m, x}); wanted(e) {
				found = append(found, e)
			}
		}
	}
	return found, nil
}

// remove removes the elements and returns them. It is guarded, because a port
// may get a new owner at any time.
func (o owned) remove(ctx context.Context, c *nftconn.Conn) (removed []entry, err error) {
	err = nftconn.Retry(ctx, func() error {
		names := nftconn.MapsQuery{Table: nftconn.Own()}
		gen, err := c.Read(ctx, &names)
		if err != nil {
			return err
		}
		if removed, err = o.find(ctx, c, names.Names); err != nil || removed == nil {
			return err
		}
		var tx nftconn.Tx
		tx.Guard(gen)
		for _, m := range distinctMaps(removed) {
			var mine []nftconn.Element
			for _, e := range removed {
				if e.in.Name == m.Name {
					mine = append(mine, e.Element)
				}
			}
			tx.Delete(m, mine...)
		}
		return c.Commit(ctx, &tx)
	})
	return removed, err
}
