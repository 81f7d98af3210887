package nftconn

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Tx is a transaction: it takes effect whole or not at all. The zero value
// is empty. Making what is there already is success where a method does not
// say otherwise.
type Tx struct {
	guard Generation
	ops   []op
}

// An op is one message of a transaction.
type op struct {
	op, object  string
	kind, flags uint16
	family      Family
	changes     change
	body        func(*encoder)
	told        func(message) // takes what became of it, if that is asked for
}

// Guard makes the transaction fail with ErrChanged unless the ruleset's
// generation is this one, which [Conn.Read] returned.
func (t *Tx) Guard(g Generation) { t.guard = g }

// Empty tells whether there is nothing to do.
func (t *Tx) Empty() bool { return len(t.ops) == 0 }

func (t *Tx) add(name, object string, changes change, kind, flags uint16, family Family, body func(*encoder)) {
	t.ops = append(t.ops, op{op: name, object: object, kind: nftMsg(kind), flags: flags, family: family, changes: changes, body: body})
}

// AddTable makes a table, and wakes it if it is dormant.
func (t *Tx) AddTable(table Table) {
	t.add("add table", table.String(), change{someTable, table, ""}, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table.Family, func(e *encoder) {
		e.str(unix.NFTA_TABLE_NAME, table.Name)
		e.u32(unix.NFTA_TABLE_FLAGS, 0)
	})
}

// AddMap makes a map or set.
func (t *Tx) AddMap(m Map) {
	id := uint32(len(t.ops) + 1) // unique within the transaction
	t.add("add map", m.String(), change{someMap, m.Table, m.Name}, unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, m.Table.Family, func(e *encoder) {
		var flags uint32
		if m.Data != nil {
			flags |= unix.NFT_SET_MAP
		}
		kind, size := datatype(m.Key)
		e.str(unix.NFTA_SET_TABLE, m.Table.Name)
		e.str(unix.NFTA_SET_NAME, m.Name)
		e.u32(unix.NFTA_SET_FLAGS, flags)
		e.u32(unix.NFTA_SET_KEY_TYPE, kind)
		e.u32(unix.NFTA_SET_KEY_LEN, uint32(size))
		if m.Data != nil {
			kind, size = datatype(m.Data)
			e.u32(unix.NFTA_SET_DATA_TYPE, kind)
			e.u32(unix.NFTA_SET_DATA_LEN, uint32(size))
		}
		e.u32(unix.NFTA_SET_ID, id)
	})
}

// SetChain makes a chain, or makes an existing one have these rules and no
// others. The hook of an existing chain can't be changed: it has to be deleted
// before.
func (t *Tx) SetChain(c Chain) {
	t.newChain(c)
	t.flush(c.Table, c.Name)
	for _, r := range c.Rules {
		r.Table, r.Chain = c.Table, c.Name
		t.AppendRule(r)
	}
}

// newChain makes a chain without its rules, or sets the policy of an existing
// one.
func (t *Tx) newChain(c Chain) {
	t.add("add chain", c.String(), change{what: anything}, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, c.Table.Family, func(e *encoder) {
		e.str(unix.NFTA_CHAIN_TABLE, c.Table.Name)
		e.str(unix.NFTA_CHAIN_NAME, c.Name)
		if c.Hook == nil {
			return
		}
		e.nest(unix.NFTA_CHAIN_HOOK, func() {
			e.u32(unix.NFTA_HOOK_HOOKNUM, uint32(c.Hook.Point))
			e.u32(unix.NFTA_HOOK_PRIORITY, uint32(c.Hook.Priority))
		})
		policy := Accept
		if c.Hook.Drop {
			policy = Drop
		}
		e.u32(unix.NFTA_CHAIN_POLICY, uint32(policy))
		e.str(unix.NFTA_CHAIN_TYPE, c.Hook.Type)
	})
}

// flush deletes the rules of a chain.
func (t *Tx) flush(table Table, chain string) {
	t.add("flush chain", table.String()+" "+chain, change{someRules, table, chain}, unix.NFT_MSG_DELRULE, 0, table.Family, func(e *encoder) {
		e.str(unix.NFTA_RULE_TABLE, table.Name)
		e.str(unix.NFTA_RULE_CHAIN, chain)
	})
}

// DeleteChain deletes a chain with its rules. The kernel refuses with EBUSY if
// a rule or element outside the transaction leads to it.
func (t *Tx) DeleteChain(table Table, chain string) {
	t.flush(table, chain)
	t.add("delete chain", table.String()+" "+chain, change{what: anything}, unix.NFT_MSG_DELCHAIN, 0, table.Family, func(e *encoder) {
		e.str(unix.NFTA_CHAIN_TABLE, table.Name)
		e.str(unix.NFTA_CHAIN_NAME, chain)
	})
}

// DeleteRule deletes a rule that was read.
func (t *Tx) DeleteRule(r Rule) {
	object := fmt.Sprintf("%s %s handle %d", r.Table, r.Chain, r.Handle)
	t.add("delete rule", object, change{someRules, r.Table, r.Chain}, unix.NFT_MSG_DELRULE, 0, r.Table.Family, func(e *encoder) {
		e.str(unix.NFTA_RULE_TABLE, r.Table.Name)
		e.str(unix.NFTA_RULE_CHAIN, r.Chain)
		e.u64(unix.NFTA_RULE_HANDLE, r.Handle)
	})
}

// maxElements is how many elements go into one message. Each takes less than
// 400 bytes, and an attribute less than 64 KiB.
const maxElements = 128

// AddElements adds elements. It fails, matching fs.ErrExist, if there is one
// with the same key.
func (t *Tx) AddElements(m Map, elements ...Element) {
	t.elements("add element", unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m, elements)
}

// DeleteElements deletes the elements of keys. It fails, matching
// fs.ErrNotExist, if there is none of a key.
func (t *Tx) DeleteElements(m Map, keys ...[]byte) {
	elements := make([]Element, len(keys))
	for i, key := range keys {
		elements[i].Key = key
	}
	t.Delete(m, elements...)
}

// Delete deletes elements as they were read.
func (t *Tx) Delete(m Map, elements ...Element) {
	keys := make([]Element, len(elements))
	for i, x := range elements {
		keys[i] = Element{Key: x.Key}
	}
	t.elements("delete element", unix.NFT_MSG_DELSETELEM, 0, m, keys)
}

func (t *Tx) elements(name string, kind, flags uint16, m Map, elements []Element) {
	for len(elements) > 0 {
		some := elements[:min(len(elements), maxElements)]
		elements = elements[len(some):]
		object := m.String() + " " + keyString(some[0].Key)
		if len(some) > 1 {
			object += fmt.Sprintf(" and %d more", len(some)-1)
		}
		t.add(name, object, change{}, kind, flags, m.Table.Family, func(e *encoder) { e.elements(m, some...) })
	}
}

// Commit applies a transaction; an empty one is nothing. The error holds an
// [Error] for the first request that the kernel refused.
func (c *Conn) Commit(ctx context.Context, t *Tx) error {
	if t.Empty() {
		return nil
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	// The kernel reports every failure but success only where it is asked for:
	// one acknowledgement, of the last request, is enough. Failures of the
	// transaction as such come as the answer to its begin.
	var e encoder
	begin := c.sock.sequence(len(t.ops) + 1)
	e.message(unix.NFNL_MSG_BATCH_BEGIN, 0, begin, 0, unix.NFNL_SUBSYS_NFTABLES, func() {
		if t.guard != 0 {
			e.u32(unix.NFNL_BATCH_GENID, uint32(t.guard))
		}
	})
	for i, op := range t.ops {
		flags := op.flags
		if i == len(t.ops)-1 {
			flags |= unix.NLM_F_ACK
		}
		if i == 0 && c.memory != nil {
			flags |= unix.NLM_F_ECHO // of the new generation, among others
		}
		e.message(op.kind, flags, begin+1+uint32(i), op.family, 0, func() { op.body(&e) })
	}
	e.message(unix.NFNL_MSG_BATCH_END, 0, begin, 0, unix.NFNL_SUBSYS_NFTABLES, nil)

	var failed error
	var made generation // stays 0 where all that was to be made was there
	err := c.sock.exchange(e.buf, begin, func(m message) bool {
		if m.kind == nftMsg(unix.NFT_MSG_NEWGEN) {
			made.found(m)
			return false
		}
		if m.kind != unix.NLMSG_ERROR {
			if i := int(m.seq - begin - 1); i >= 0 && i < len(t.ops) && t.ops[i].told != nil && m.kind == t.ops[i].kind {
				t.ops[i].told(m)
			}
			return false
		}
		errno, text := m.status()
		if m.seq == begin {
			failed = &Error{Op: "commit", Object: "transaction", Errno: errno, Text: text}
			if errno == unix.ERESTART {
				failed = errors.Join(ErrChanged, failed)
			}
			return true
		}
		i := int(m.seq - begin - 1)
		if errno != 0 && failed == nil {
			failed = &Error{Op: t.ops[i].op, Object: t.ops[i].object, Errno: errno, Text: text}
		}
		return i == len(t.ops)-1
	})
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("change nftables: %w", err)
	}
	if c.memory != nil && made.is != 0 {
		c.memory.committed(made.is, t)
	}
	return nil
}
