package nftconn

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The legacy iptables keep a table as one block of entries, which is read by
// two socket options (struct ipt_getinfo and ipt_get_entries in
// linux/netfilter_ipv4/ip_tables.h; ip6_tables.h is the same but for the sizes
// of addresses).

// Numbers of the socket options, the same in both families.
const (
	soGetInfo    = 64
	soGetEntries = 65
)

const (
	tableNameLen = 32
	chainNameLen = 32 // XT_FUNCTION_MAXNAMELEN of the target "ERROR"
	extNameLen   = 29 // of matches and targets, after their size and before their revision
	extHeaderLen = 32
	hooks        = 5
)

// A layout is where the fields of an entry are.
type layout struct {
	addrLen      int
	interfaces   int // the names of both, and their masks, in struct ipt_ip, ip6t_ip6
	protocol     int // 0 matches any
	inverted     int
	targetOffset int
	nextOffset   int
	size         int
	names        string // the file that lists the tables in use
	domain       int
	level        int
}

func legacyLayout(f Family) layout {
	if f == IPv4 {
		return layout{4, 16, 80, 83, 88, 90, 112, "ip_tables_names", unix.AF_INET, unix.SOL_IP}
	}
	return layout{16, 64, 128, 132, 140, 142, 168, "ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6}
}

// Bits of the inverted flags.
const (
	invertedIn          = 0x01
	invertedOut         = 0x02
	invertedSource      = 0x08
	invertedDestination = 0x10
)

// hookChain is the built-in chain of a point.
func hookChain(point int) string {
	return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}[point]
}

// A LegacyTable is a table of the legacy iptables. Chains are the user's own.
// Rules are in their order and have neither Table nor Handle.
type LegacyTable struct {
	Chains   []string
	Rules    []Rule
	Policies map[string]Verdict // by built-in chain; nil where the table is not in use
}

// Legacy returns a table of the legacy iptables.
func (c *Conn) Legacy(ctx context.Context, family Family, table string) (t LegacyTable, err error) {
	if err := ctx.Err(); err != nil {
		return t, err
	}
	l := legacyLayout(family)
	// Asking for a table makes it; so look first whether it is there.
	names, err := c.legacyNames(l)
	if err == nil && slices.Contains(strings.Fields(names), table) {
		err = c.ns.Do(func() (err error) {
			t, err = l.read(table)
			return err
		})
	}
	if err != nil {
		return t, fmt.Errorf("read %s table %s of legacy iptables: %w", family, table, err)
	}
	return t, nil
}

// legacyNames returns the names of a family's tables in use, a line each. The
// file that lists them stays open: it is the namespace's, whoever reads it.
func (c *Conn) legacyNames(l layout) (string, error) {
	fd, ok := c.names[l.names]
	if !ok {
		err := c.ns.Do(func() (err error) {
			fd, err = unix.Open("/proc/thread-self/net/"+l.names, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			return err
		})
		if err == unix.ENOENT {
			return "", nil // the kernel has none of them
		}
		if err != nil {
			return "", err
		}
		if c.names == nil {
			c.names = make(map[string]int)
		}
		c.names[l.names] = fd
	}
	buf := make([]byte, 4096) // a page, which a dozen names don't fill
	for {
		n, err := unix.Pread(fd, buf, 0)
		if err != unix.EINTR {
			return string(buf[:max(n, 0)]), err
		}
	}
}

// read reads a table in the thread's namespace.
func (l layout) read(table string) (t LegacyTable, err error) {
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return t, err
	}
	defer unix.Close(fd)
	for {
		// struct ipt_getinfo: name, mask of valid hooks, their entries, their
		// underflows, number of entries, size.
		info := make([]byte, tableNameLen+4+hooks*4+hooks*4+4+4)
		copy(info, table)
		if err := getsockopt(fd, l.level, soGetInfo, info); err != nil {
			return t, err
		}
		valid := binary.NativeEndian.Uint32(info[tableNameLen:])
		size := binary.NativeEndian.Uint32(info[len(info)-4:])
		// struct ipt_get_entries: name, size, and the entries, aligned to 8.
		const head = tableNameLen + 8
		entries := make([]byte, head+size)
		copy(entries, table)
		binary.NativeEndian.PutUint32(entries[tableNameLen:], size)
		err := getsockopt(fd, l.level, soGetEntries, entries)
		if err == unix.EAGAIN {
			continue // the table has changed in between
		}
		if err != nil {
			return t, err
		}
		starts := make(map[int]string)
		for point := range hooks {
			if valid&(1<<point) != 0 {
				starts[int(binary.NativeEndian.Uint32(info[tableNameLen+4+4*point:]))] = hookChain(point)
			}
		}
		return l.decode(entries[head:], starts), nil
	}
}

func getsockopt(fd, level, option int, value []byte) error {
	size := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// decode decodes a block of entries. starts are the offsets of
// the built-in chains; the others begin behind an entry with the target
// "ERROR" that holds their name.
func (l layout) decode(block []byte, starts map[int]string) (t LegacyTable) {
	type entry struct {
		offset int
		chain  string
		data   []byte
	}
	var entries []entry
	chain := ""
	for at := 0; at+l.size <= len(block); {
		next := int(binary.NativeEndian.Uint16(block[at+l.nextOffset:]))
		target := int(binary.NativeEndian.Uint16(block[at+l.targetOffset:]))
		if next < l.size+extHeaderLen || at+next > len(block) || target < l.size || target+extHeaderLen > next {
			break
		}
		data := block[at : at+next]
		if name, ok := starts[at]; ok {
			chain = name
		}
		if extName(data[target:]) == "ERROR" {
			if at+next == len(block) {
				break // the end of the table
			}
			chain = unix.ByteSliceToString(data[target+extHeaderLen:])
			starts[at+next] = chain
			t.Chains = append(t.Chains, chain)
		} else {
			entries = append(entries, entry{at, chain, data})
		}
		at += next
	}
	for i, e := range entries {
		rule := l.rule(e.chain, e.data, starts)
		if i+1 < len(entries) && entries[i+1].chain == e.chain {
			t.Rules = append(t.Rules, rule)
			continue
		}
		// The last entry of a chain is its policy.
		policy, ok := rule.Exprs[len(rule.Exprs)-1].(Verdict)
		if ok && !slices.Contains(t.Chains, e.chain) {
			if t.Policies == nil {
				t.Policies = make(map[string]Verdict)
			}
			t.Policies[e.chain] = policy
		}
	}
	return t
}

func extName(ext []byte) string {
	return unix.ByteSliceToString(ext[2 : 2+extNameLen])
}

func (l layout) rule(chain string, data []byte, starts map[int]string) Rule {
	r := Rule{Chain: chain}
	family := IPv4
	if l.addrLen == 16 {
		family = IPv6
	}
	field := func(i int) []byte { return getBytes(data[i*l.addrLen : (i+1)*l.addrLen]) }
	inverted := data[l.inverted]
	match := func(load Expr, addr, mask []byte, not bool) {
		if bytes.Count(mask, []byte{0}) == len(mask) {
			return
		}
		op := Equal
		if not {
			op = NotEqual
		}
		r.Exprs = append(r.Exprs, load)
		if ones(mask) < 8*len(mask) {
			r.Exprs = append(r.Exprs, Bitwise{Reg: Reg, Mask: mask, Xor: make([]byte, len(mask))})
		}
		r.Exprs = append(r.Exprs, Cmp{Op: op, Reg: Reg, Data: addr})
	}
	match(SourceAddr(family), field(0), field(2), inverted&invertedSource != 0)
	match(DestinationAddr(family), field(1), field(3), inverted&invertedDestination != 0)

	name := func(i int) []byte { return data[l.interfaces+i*unix.IFNAMSIZ : l.interfaces+(i+1)*unix.IFNAMSIZ] }
	matchName := func(key uint32, name, mask []byte, not bool) {
		size := ones(mask) / 8 // with the NUL, but for a name that ends in "+"
		if size == 0 {
			return
		}
		op := Equal
		if not {
			op = NotEqual
		}
		r.Exprs = append(r.Exprs, Meta{Key: key, Reg: Reg}, Cmp{Op: op, Reg: Reg, Data: getBytes(name[:size])})
	}
	matchName(unix.NFT_META_IIFNAME, name(0), name(2), inverted&invertedIn != 0)
	matchName(unix.NFT_META_OIFNAME, name(1), name(3), inverted&invertedOut != 0)
	if protocol := data[l.protocol]; protocol != 0 {
		r.Exprs = append(r.Exprs, TransportProtocol(Reg), Cmp{Op: Equal, Reg: Reg, Data: []byte{protocol}})
	}

	target := int(binary.NativeEndian.Uint16(data[l.targetOffset:]))
	for at := l.size; at+extHeaderLen <= target; {
		size := int(binary.NativeEndian.Uint16(data[at:]))
		if size < extHeaderLen || at+size > target {
			break
		}
		if name := extName(data[at:]); name == "comment" {
			r.Comment = unix.ByteSliceToString(data[at+extHeaderLen : at+size])
		} else {
			r.Exprs = append(r.Exprs, Match{Name: name, Rev: uint32(data[at+2+extNameLen]), Info: getBytes(data[at+extHeaderLen : at+size])})
		}
		at += size
	}

	targetName, info := extName(data[target:]), data[target+extHeaderLen:]
	if targetName != "" {
		r.Exprs = append(r.Exprs, Target{Name: targetName, Rev: uint32(data[target+2+extNameLen]), Info: getBytes(info)})
		return r
	}
	// The standard target: the offset of where to go, or a verdict as -1-verdict.
	var verdict int32
	if len(info) >= 4 {
		verdict = int32(binary.NativeEndian.Uint32(info))
	}
	switch {
	case verdict >= 0:
		r.Exprs = append(r.Exprs, Verdict{Code: Jump, Chain: starts[int(verdict)]})
	case verdict == legacyReturn:
		r.Exprs = append(r.Exprs, Verdict{Code: Return})
	default:
		r.Exprs = append(r.Exprs, Verdict{Code: -1 - verdict})
	}
	return r
}

const legacyReturn = -5 // XT_RETURN: -NF_REPEAT-1
