package portmap

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// at is a set that is always empty: its name tells that ports of an address of
// the host are mapped, so that whoever maps one of every address knows where
// else to look.
func at(host netip.Addr) nftconn.Map {
	f := nftconn.FamilyOf(host)
	return nftconn.Map{Table: nftconn.Own(), Name: familyName(f) + "-at-" + hex.EncodeToString(host.AsSlice()), Key: []nftconn.Type{nftconn.AddrType(f)}}
}

// What the names of the table's maps tell.
type shared struct {
	classes map[nftconn.Family][]string
	sizes   map[string][]int // of blocks, by the chain of their class
	hosts   map[nftconn.Family][]netip.Addr
	lengths map[nftconn.Family][]int
}

func readNames(names []string) shared {
	s := shared{
		classes: map[nftconn.Family][]string{nftconn.IPv4: {""}, nftconn.IPv6: {""}},
		sizes:   make(map[string][]int),
		hosts:   make(map[nftconn.Family][]netip.Addr),
		lengths: make(map[nftconn.Family][]int),
	}
	for _, f := range nftconn.Families() {
		for _, name := range names {
			rest, ok := strings.CutPrefix(name, familyName(f))
			if !ok {
				continue
			}
			if strings.HasPrefix(rest, classPrefix) {
				s.classes[f] = append(s.classes[f], rest)
			}
			if after, ok := strings.CutPrefix(rest, blockInfix); ok {
				digits, of, conditional := strings.Cut(after, classPrefix)
				if conditional {
					of = classPrefix + of
				}
				c := class{family: f, name: of}
				if size, err := strconv.Atoi(digits); err == nil && size > 1 && size&(size-1) == 0 {
					s.sizes[c.chain()] = append(s.sizes[c.chain()], size)
				}
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
	for _, f := range nftconn.Families() {
		for _, name := range s.classes[f] {
			maps = append(maps, s.mapsOf(class{family: f, name: name})...)
		}
	}
	return maps
}

// mapsOf returns those of a class.
func (s shared) mapsOf(c class) (maps []nftconn.Map) {
	for _, size := range c.sizes(s) {
		maps = append(maps, c.ports(size))
	}
	return maps
}

// sources returns all sets of pairs that there are.
func (s shared) sources() (sets []nftconn.Map) {
	for _, f := range nftconn.Families() {
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

func familyOfMap(m nftconn.Map) nftconn.Family {
	if strings.HasPrefix(m.Name, familyName(nftconn.IPv4)) {
		return nftconn.IPv4
	}
	return nftconn.IPv6
}
