package state

import (
	"context"
	"net/netip"
	"slices"
)

// A flush is a wish that flows are forgotten.
type flush struct {
	addrs []netip.Addr
	done  chan error // takes one without blocking
}

func (f flush) fail(err error) { f.done <- err }

// FlushConntrack makes the kernel forget the flows of addresses that are about to
// be somebody else's, in the host's namespace.
//
// To find them the kernel goes through the flows of all namespaces, which takes
// longer than the rest of a verb. So that is done for all who want it at once.
func (k *Kernel) FlushConntrack(ctx context.Context, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	if k.machine == nil {
		nft, err := k.NFT()
		if err != nil {
			return err
		}
		return nft.FlushConntrack(ctx, addrs)
	}
	own := flush{addrs, make(chan error, 1)}
	k.machine.flushFlows(own)
	return <-own.done
}

func (m *Machine) flushFlows(own flush) {
	m.flushes.add(m, 1, []flush{own}, func(batch []flush) {
		var addrs []netip.Addr
		for _, one := range batch {
			addrs = append(addrs, one.addrs...)
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		conn, err := m.dialNFT()
		if err == nil {
			err = conn.FlushConntrack(context.Background(), slices.Compact(addrs)) // of many callers
			m.giveBack(nil, conn)
		}
		for _, one := range batch {
			one.done <- err
		}
	})
}
