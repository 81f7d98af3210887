package addrstore

import (
	"cmp"
	"net/netip"
	"slices"
)

// A Usage is what is held of some addresses.
type Usage struct {
	Held    int       // addresses that have a record
	Holders []Holding // who has most of them, at most three
}

// A Holding is how many addresses a container holds.
type Holding struct {
	ContainerID string // empty for what is no record
	Addresses   int
}

// Usage counts what is held among the addresses that in accepts.
func (s *Store) Usage(in func(netip.Addr) bool) (Usage, error) {
	if err := s.load(); err != nil {
		return Usage{}, err
	}
	type holding struct {
		n  int
		of netip.Addr // one of them
	}
	byContainer := make(map[uint64]holding)
	var u Usage
	err := s.index.all(func(e *slot) {
		if e[0] != kindHolder || !in(e.addr()) {
			return
		}
		u.Held++
		h := byContainer[e.container()]
		byContainer[e.container()] = holding{h.n + 1, e.addr()}
	})
	if err != nil {
		return Usage{}, err
	}
	most := make([]holding, 0, len(byContainer))
	for _, h := range byContainer {
		most = append(most, h)
	}
	slices.SortFunc(most, func(a, b holding) int {
		return cmp.Or(cmp.Compare(b.n, a.n), a.of.Compare(b.of))
	})
	for _, h := range most[:min(3, len(most))] {
		r, _ := s.read(h.of)
		u.Holders = append(u.Holders, Holding{r.ContainerID, h.n})
	}
	return u, nil
}
