package nftconn

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

func nftMsg(kind uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

// A Query asks for one thing and holds the answer. The set is closed.
type Query interface {
	object() string

	// get appends the request for one object, found takes the answer, which
	// does not come if it is absent.
	get(e *encoder, seq uint32) bool
	found(message)

	// list appends the request for a listing, listed takes each item.
	list(e *encoder, seq uint32) bool
	listed(message)

	// enough tells whether the listing need not go on.
	enough() bool

	// fact names what is asked for where a [Memory] may remember the answer,
	// which copy returns and recall takes.
	fact() fact
	copy() Query
	recall(Query)
}

// Parts of queries that ask for one object only, or for a listing only, and of
// those whose answers are not remembered.
type (
	single struct{}
	dump   struct{}
	unkept struct{}
)

func (unkept) fact() fact   { return fact{} }
func (unkept) copy() Query  { return nil }
func (unkept) recall(Query) {}

func (single) list(*encoder, uint32) bool { return false }
func (single) listed(message)             {}
func (single) enough() bool               { return false }
func (dump) enough() bool                 { return false }
func (dump) get(*encoder, uint32) bool    { return false }
func (dump) found(message)                {}

// generation asks for the ruleset's generation.
type generation struct {
	single
	unkept
	is Generation
}

func (*generation) object() string { return "generation" }

func (*generation) get(e *encoder, seq uint32) bool {
	e.message(nftMsg(unix.NFT_MSG_GETGEN), 0, seq, 0, 0, nil)
	return true
}

func (q *generation) found(m message) {
	for kind, b := range m.attributes() {
		if kind == unix.NFTA_GEN_ID {
			q.is = Generation(getU32(b))
		}
	}
}

// TableQuery asks for a table.
type TableQuery struct {
	single
	Table Table

	Found   bool
	Dormant bool // its chains see no packets
	Owned   bool // by a process, and nobody else can change it
}

func (q *TableQuery) object() string { return q.Table.String() }

func (q *TableQuery) fact() fact         { return fact{of: aTable, table: q.Table} }
func (q *TableQuery) copy() Query        { known := *q; return &known }
func (q *TableQuery) recall(known Query) { *q = *known.(*TableQuery) }

func (q *TableQuery) get(e *encoder, seq uint32) bool {
	e.message(nftMsg(unix.NFT_MSG_GETTABLE), 0, seq, q.Table.Family, 0, func() {
		e.str(unix.NFTA_TABLE_NAME, q.Table.Name)
	})
	return true
}

func (q *TableQuery) found(m message) {
	q.Found = true
	for kind, b := range m.attributes() {
		if kind == unix.NFTA_TABLE_FLAGS {
			q.Dormant = getU32(b)&tableDormant != 0
			q.Owned = getU32(b)&tableOwner != 0
		}
	}
}

// Flags of tables.
const (
	tableDormant = 1 // NFT_TABLE_F_DORMANT
	tableOwner   = 2 // NFT_TABLE_F_OWNER
)

// ChainQuery asks for a chain, without its rules.
type ChainQuery struct {
	single
	Table Table
	Name  string

	Found bool
	Hook  *Hook
}

func (q *ChainQuery) object() string { return q.Table.String() + " " + q.Name }

func (q *ChainQuery) fact() fact         { return fact{of: aChain, table: q.Table, name: q.Name} }
func (q *ChainQuery) copy() Query        { known := *q; return &known }
func (q *ChainQuery) recall(known Query) { *q = *known.(*ChainQuery) }

func (q *ChainQuery) get(e *encoder, seq uint32) bool {
	e.message(nftMsg(unix.NFT_MSG_GETCHAIN), 0, seq, q.Table.Family, 0, func() {
		e.str(unix.NFTA_CHAIN_TABLE, q.Table.Name)
		e.str(unix.NFTA_CHAIN_NAME, q.Name)
	})
	return true
}

func (q *ChainQuery) found(m message) {
	q.Found = true
	var h Hook
	for kind, b := range m.attributes() {
		switch kind {
		case unix.NFTA_CHAIN_TYPE:
			h.Type = getString(b)
		case unix.NFTA_CHAIN_POLICY:
			h.Drop = getU32(b) == uint32(Drop)
		case unix.NFTA_CHAIN_HOOK:
			q.Hook = &h
			for kind, b := range attributes(b) {
				switch kind {
				case unix.NFTA_HOOK_HOOKNUM:
					h.Point = Point(getU32(b))
				case unix.NFTA_HOOK_PRIORITY:
					h.Priority = int32(getU32(b))
				}
			}
		}
	}
}

// RulesQuery asks for the rules of a table, or of one chain of it, in their
// order.
type RulesQuery struct {
	dump
	Table Table
	Chain string // "" asks for all

	Rules []Rule
}

// Of returns those of one chain.
func (q *RulesQuery) Of(chain string) []Rule {
	return slices.DeleteFunc(slices.Clone(q.Rules), func(r Rule) bool { return r.Chain != chain })
}

func (q *RulesQuery) object() string { return "rules of " + q.Table.String() + " " + q.Chain }

func (q *RulesQuery) fact() fact         { return fact{of: rulesOf, table: q.Table, name: q.Chain} }
func (q *RulesQuery) copy() Query        { known := *q; known.Rules = slices.Clip(q.Rules); return &known }
func (q *RulesQuery) recall(known Query) { *q = *known.(*RulesQuery) }

func (q *RulesQuery) list(e *encoder, seq uint32) bool {
	q.Rules = nil
	e.message(nftMsg(unix.NFT_MSG_GETRULE), unix.NLM_F_DUMP, seq, q.Table.Family, 0, func() {
		e.str(unix.NFTA_RULE_TABLE, q.Table.Name)
		if q.Chain != "" {
			e.str(unix.NFTA_RULE_CHAIN, q.Chain)
		}
	})
	return true
}

func (q *RulesQuery) listed(m message) { q.Rules = append(q.Rules, decodeRule(m, q.Table)) }

// RuleQuery asks for the rule of a handle.
type RuleQuery struct {
	single
	unkept
	Table  Table
	Chain  string
	Handle uint64

	Rule *Rule // nil if there is none
}

func (q *RuleQuery) object() string {
	return fmt.Sprintf("%s %s handle %d", q.Table, q.Chain, q.Handle)
}

func (q *RuleQuery) get(e *encoder, seq uint32) bool {
	e.message(nftMsg(unix.NFT_MSG_GETRULE), 0, seq, q.Table.Family, 0, func() {
		e.str(unix.NFTA_RULE_TABLE, q.Table.Name)
		e.str(unix.NFTA_RULE_CHAIN, q.Chain)
		e.u64(unix.NFTA_RULE_HANDLE, q.Handle)
	})
	return true
}

func (q *RuleQuery) found(m message) {
	r := decodeRule(m, q.Table)
	q.Rule = &r
}

func decodeRule(m message, t Table) Rule {
	r := Rule{Table: t}
	var comment string
	for kind, b := range m.attributes() {
		switch kind {
		case unix.NFTA_RULE_CHAIN:
			r.Chain = getString(b)
		case unix.NFTA_RULE_HANDLE:
			r.Handle = getU64(b)
		case unix.NFTA_RULE_EXPRESSIONS:
			r.decodeExprs(b)
		case unix.NFTA_RULE_USERDATA:
			comment = decodeComment(b)
		}
	}
	if comment != "" {
		r.Comment = comment
	}
	return r
}

// MapsQuery asks for the names of a table's maps and sets.
type MapsQuery struct {
	dump
	Table Table

	Names []string
}

func (q *MapsQuery) object() string { return "maps of " + q.Table.String() }

func (q *MapsQuery) fact() fact         { return fact{of: mapsOf, table: q.Table} }
func (q *MapsQuery) copy() Query        { known := *q; known.Names = slices.Clip(q.Names); return &known }
func (q *MapsQuery) recall(known Query) { *q = *known.(*MapsQuery) }

func (q *MapsQuery) list(e *encoder, seq uint32) bool {
	q.Names = nil
	e.message(nftMsg(unix.NFT_MSG_GETSET), unix.NLM_F_DUMP, seq, q.Table.Family, 0, func() {
		e.str(unix.NFTA_SET_TABLE, q.Table.Name)
	})
	return true
}

func (q *MapsQuery) listed(m message) {
	for kind, b := range m.attributes() {
		if kind == unix.NFTA_SET_NAME {
			q.Names = append(q.Names, getString(b))
		}
	}
}

// ElementQuery asks for the element of a key.
type ElementQuery struct {
	single
	unkept
	Map Map
	Key []byte

	Element *Element // nil if there is none
}

func (q *ElementQuery) object() string { return q.Map.String() + " " + keyString(q.Key) }

func (q *ElementQuery) get(e *encoder, seq uint32) bool {
	e.message(nftMsg(unix.NFT_MSG_GETSETELEM), 0, seq, q.Map.Table.Family, 0, func() {
		e.elements(q.Map, Element{Key: q.Key})
	})
	return true
}

func (q *ElementQuery) found(m message) {
	for _, x := range decodeElements(m) {
		q.Element = &x
	}
}

// ElementsQuery asks for all elements of a map.
type ElementsQuery struct {
	dump
	unkept
	Map Map

	// AtMost, if not 0, ends the listing soon after so many elements, whatever
	// the map holds.
	AtMost int

	Elements []Element
	More     bool // there are others than these
}

func (q *ElementsQuery) object() string { return "elements of " + q.Map.String() }

func (q *ElementsQuery) list(e *encoder, seq uint32) bool {
	q.Elements, q.More = nil, false
	e.message(nftMsg(unix.NFT_MSG_GETSETELEM), unix.NLM_F_DUMP, seq, q.Map.Table.Family, 0, func() {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, q.Map.Table.Name)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, q.Map.Name)
	})
	return true
}

func (q *ElementsQuery) listed(m message) {
	q.Elements = append(q.Elements, decodeElements(m)...)
	q.More = q.AtMost != 0 && len(q.Elements) > q.AtMost
}

func (q *ElementsQuery) enough() bool { return q.More }

// elements appends the body of a message about elements of a map.
func (e *encoder) elements(m Map, elements ...Element) {
	e.str(unix.NFTA_SET_ELEM_LIST_TABLE, m.Table.Name)
	e.str(unix.NFTA_SET_ELEM_LIST_SET, m.Name)
	e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for _, x := range elements {
			e.nest(unix.NFTA_LIST_ELEM, func() {
				e.data(unix.NFTA_SET_ELEM_KEY, x.Key)
				if x.Data != nil {
					e.data(unix.NFTA_SET_ELEM_DATA, x.Data)
				}
				if x.Comment != "" {
					e.bytes(unix.NFTA_SET_ELEM_USERDATA, encodeComment(x.Comment))
				}
			})
		}
	})
}

func decodeElements(m message) (elements []Element) {
	for kind, list := range m.attributes() {
		if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for _, item := range attributes(list) {
			var x Element
			for kind, b := range attributes(item) {
				switch kind {
				case unix.NFTA_SET_ELEM_KEY:
					x.Key, _ = decodeData(b)
				case unix.NFTA_SET_ELEM_DATA:
					x.Data, _ = decodeData(b)
				case unix.NFTA_SET_ELEM_USERDATA:
					x.Comment = decodeComment(b)
				}
			}
			elements = append(elements, x)
		}
	}
	return elements
}

// The kernel keeps comments as user data, whose format is libnftnl's: a type
// (0 is a comment, of elements and of rules), a length and the text with a NUL.

const commentType = 0

func encodeComment(s string) []byte {
	s = s[:min(len(s), maxComment)]
	return append(append([]byte{commentType, byte(len(s) + 1)}, s...), 0)
}

// maxComment is what nft accepts, without the NUL.
const maxComment = 127

func decodeComment(b []byte) string {
	for len(b) >= 2 {
		kind, n := b[0], int(b[1])
		b = b[2:]
		if n > len(b) {
			break
		}
		if kind == commentType {
			return getString(b[:n])
		}
		b = b[n:]
	}
	return ""
}
