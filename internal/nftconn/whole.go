package nftconn

import "golang.org/x/sys/unix"

// AllMapsQuery asks for the maps and sets of all tables, by table and name
// alone.
type AllMapsQuery struct {
	dump
	unkept

	Maps []Map
}

func (q *AllMapsQuery) object() string { return "maps of all tables" }

func (q *AllMapsQuery) list(e *encoder, seq uint32) bool {
	q.Maps = nil
	e.message(nftMsg(unix.NFT_MSG_GETSET), unix.NLM_F_DUMP, seq, unix.NFPROTO_UNSPEC, 0, nil)
	return true
}

func (q *AllMapsQuery) listed(m message) {
	found := Map{Table: Table{Family: m.family()}}
	for kind, b := range m.attributes() {
		switch kind {
		case unix.NFTA_SET_TABLE:
			found.Table.Name = getString(b)
		case unix.NFTA_SET_NAME:
			found.Name = getString(b)
		}
	}
	q.Maps = append(q.Maps, found)
}

// AllChainsQuery asks for the chains of all tables, without their rules.
type AllChainsQuery struct {
	dump
	unkept

	Chains []Chain
}

func (q *AllChainsQuery) object() string { return "chains of all tables" }

func (q *AllChainsQuery) list(e *encoder, seq uint32) bool {
	q.Chains = nil
	e.message(nftMsg(unix.NFT_MSG_GETCHAIN), unix.NLM_F_DUMP, seq, unix.NFPROTO_UNSPEC, 0, nil)
	return true
}

func (q *AllChainsQuery) listed(m message) {
	found := Chain{Table: Table{Family: m.family()}}
	for kind, b := range m.attributes() {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			found.Table.Name = getString(b)
		case unix.NFTA_CHAIN_NAME:
			found.Name = getString(b)
		}
	}
	q.Chains = append(q.Chains, found)
}

// family is that of the object that a message is about.
func (m message) family() Family {
	if len(m.body) == 0 {
		return 0
	}
	return Family(m.body[0])
}

// DeleteTable deletes a table with all that is in it. It fails, matching
// fs.ErrNotExist, if there is none.
func (t *Tx) DeleteTable(table Table) {
	t.add("delete table", table.String(), change{what: anything}, unix.NFT_MSG_DELTABLE, 0, table.Family, func(e *encoder) {
		e.str(unix.NFTA_TABLE_NAME, table.Name)
	})
}

// DeleteMap deletes a map or set with its elements. The kernel refuses with
// EBUSY if a rule outside the transaction refers to it.
func (t *Tx) DeleteMap(m Map) {
	t.add("delete map", m.String(), change{what: anything}, unix.NFT_MSG_DELSET, 0, m.Table.Family, func(e *encoder) {
		e.str(unix.NFTA_SET_TABLE, m.Table.Name)
		e.str(unix.NFTA_SET_NAME, m.Name)
	})
}
