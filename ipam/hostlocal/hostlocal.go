// Package hostlocal is the IPAM plugin host-local: it gives out the addresses of
// configured ranges, one a range set, in turn, and keeps on disk who has which.
// The keys are those of the reference's document, and so is the layout of the
// folder (package addrstore): either can take over from the other.
//
// Addresses are given in the reference's order. On purpose different are:
//   - The network and broadcast addresses of an IPv4 subnet and the gateway of
//     any range of the set are never given, even where rangeStart and rangeEnd
//     include them.
//   - A second ADD for an attachment is refused whatever it asks for; the
//     reference lets it pass with a requested address or other ranges.
//   - A range set gives what is asked for in the order of the requests, not in
//     a random one.
//   - CHECK compares with prevResult. DEL and GC need no ranges.
//   - What depends on the working directory, a relative dataDir or resolvConf,
//     is refused.
package hostlocal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/addrstore"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
)

type hostLocal struct{ stores addrstore.Opener }

// New returns the plugin. It may be used by several goroutines, which wait for
// a network's lock in turn.
func New() plugin.IPAM { return new(hostLocal) }

// Name implements plugin.IPAM.
func (*hostLocal) Name() string { return "host-local" }

// Add implements plugin.IPAM. The attachment gets an address of every range
// set, or none. Errors have
//   - cni.CodeInvalidConfig or cni.CodeInvalidEnvironment for what it can't
//     act on,
//   - state.CodeConflict if an address that was asked for is held by another, or
//     the attachment holds one already,
//   - state.CodeExhausted if a range set has no address left,
//   - cni.CodeTryAgain if the network stays locked, and
//   - cni.CodeIO if the folder can't be used.
func (h *hostLocal) Add(ctx context.Context, r *plugin.Request) (*cni.Result, error) {
	result, _, err := h.AddFresh(ctx, r)
	return result, err
}

var _ plugin.Rememberer = (*hostLocal)(nil)

// AddFresh implements plugin.Rememberer. Its errors are Add's.
func (h *hostLocal) AddFresh(ctx context.Context, r *plugin.Request) (result *cni.Result, fresh bool, err error) {
	c, err := parseConfig(r)
	if err != nil {
		return nil, false, err
	}
	result = &cni.Result{CNIVersion: r.Config.CNIVersion, Routes: c.routes}
	if c.resolvConf != "" {
		if result.DNS, err = readResolvConf(c.resolvConf); err != nil {
			return nil, false, err
		}
	}
	store, err := h.stores.Create(ctx, c.dataDir, r.Config.Name)
	if err != nil {
		return nil, false, storeError(r, err)
	}
	defer store.Close()

	held, err := store.Held(r.ContainerID, r.IfName)
	if err != nil {
		return nil, false, storeError(r, err)
	}
	if len(held) > 0 {
		return nil, false, cni.Errorf(state.CodeConflict, "network %s: container %s, interface %s holds %s already",
			r.Config.Name, r.ContainerID, r.IfName, join(held)).WithDetails("an attachment is added once; DEL releases its addresses")
	}
	for i, set := range c.sets {
		a, err := c.allocate(store, i, r)
		if err != nil {
			_, undo := store.Release(r.ContainerID, r.IfName)
			return nil, false, errors.Join(storeError(r, err), undo)
		}
		in := set[set.find(a)]
		result.IPs = append(result.IPs, cni.IP{Address: netip.PrefixFrom(a, in.subnet.Bits()), Gateway: in.gateway})
	}
	return result, store.Fresh(), nil
}

// allocate reserves an address of range set i.
func (c *config) allocate(store *addrstore.Store, i int, r *plugin.Request) (netip.Addr, error) {
	record := addrstore.Record{ContainerID: r.ContainerID, IfName: r.IfName}
	if q := c.requests[i]; q != nil {
		if err := store.Reserve(q.addr, record); err != nil {
			return q.addr, fmt.Errorf("%s: %w", q.Key, err)
		}
		return q.addr, store.SetLastReserved(i, q.addr)
	}
	set := c.sets[i]
	skip := func(a netip.Addr) bool { return set.reserved(a) != "" }
	for {
		for _, part := range set.order(store.LastReserved(i)) {
			a, ok, err := store.ReserveNext(part[0], part[1], skip, record)
			if ok && err == nil {
				err = store.SetLastReserved(i, a)
			}
			if ok || err != nil {
				return a, err
			}
		}
		// Not before the records themselves have been looked at.
		if again, err := store.Refresh(); !again {
			return netip.Addr{}, errors.Join(exhausted(store, i, set), err)
		}
	}
}

// exhausted returns the error of a range set without a free address.
func exhausted(store *addrstore.Store, i int, set rangeSet) error {
	use, err := store.Usage(set.gives)
	if err != nil {
		return err
	}
	var most []string
	for _, h := range use.Holders {
		name := h.ContainerID
		if name == "" {
			name = "what is no container"
		}
		most = append(most, fmt.Sprintf("%s (%d)", name, h.Addresses))
	}
	return cni.Errorf(state.CodeExhausted, "no address left in range set %d, %s: %d of %d are held, most by %s",
		i, set, use.Held, set.size(), strings.Join(most, ", ")).
		WithDetails("add a range, or release what belongs to containers that are gone: DEL, GC")
}

// Check implements plugin.IPAM: the attachment must hold an address, and each
// that prevResult has from the configured ranges. Errors have state.CodeDrift
// if it doesn't, else those of Add.
func (h *hostLocal) Check(ctx context.Context, r *plugin.Request) error {
	c, err := parseConfig(r)
	if err != nil {
		return err
	}
	missing := func() *cni.Error {
		return cni.Errorf(state.CodeDrift, "network %s: container %s, interface %s holds no address in %s",
			r.Config.Name, r.ContainerID, r.IfName, c.dataDir)
	}
	store, err := h.stores.Open(ctx, c.dataDir, r.Config.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return missing()
	}
	if err != nil {
		return storeError(r, err)
	}
	defer store.Close()
	held, err := store.Held(r.ContainerID, r.IfName)
	if err != nil {
		return storeError(r, err)
	}
	if len(held) == 0 {
		return missing()
	}
	if r.Config.PrevResult == nil {
		return nil
	}
	for _, ip := range r.Config.PrevResult.IPs {
		a := ip.Address.Addr()
		if slices.Contains(held, a) || !c.gives(a) {
			continue // another plugin's, or from a range that is configured no more
		}
		holder := "nobody"
		if other, err := store.Holder(a); err == nil {
			holder = other.String()
		}
		return cni.Errorf(state.CodeDrift, "network %s: container %s, interface %s has %s but holds %s",
			r.Config.Name, r.ContainerID, r.IfName, a, join(held)).WithDetails(fmt.Sprintf("%s is held by %s", a, holder))
	}
	return nil
}

// gives reports whether an address is one that the ranges give.
func (c *config) gives(a netip.Addr) bool {
	return slices.ContainsFunc(c.sets, func(s rangeSet) bool { return s.find(a) >= 0 })
}

// Held implements plugin.IPAM.
func (h *hostLocal) Held(ctx context.Context, r *plugin.Request) ([]netip.Addr, error) {
	return h.open(ctx, r, func(s *addrstore.Store) ([]netip.Addr, error) {
		return s.Held(r.ContainerID, r.IfName)
	})
}

// Del implements plugin.IPAM. Of the configuration it needs no more than the
// dataDir. Errors have cni.CodeTryAgain, cni.CodeIO or cni.CodeInvalidConfig.
func (h *hostLocal) Del(ctx context.Context, r *plugin.Request) ([]netip.Addr, error) {
	return h.open(ctx, r, func(s *addrstore.Store) ([]netip.Addr, error) {
		return s.Release(r.ContainerID, r.IfName)
	})
}

// GC implements plugin.IPAM. It spares what no container can hold, such as an
// operator's note in a file that is named after an address.
func (h *hostLocal) GC(ctx context.Context, r *plugin.Request) ([]netip.Addr, error) {
	if !r.Config.HasValid {
		return nil, nil
	}
	return h.open(ctx, r, func(s *addrstore.Store) ([]netip.Addr, error) { return s.Retain(spared(r)) })
}

var _ plugin.Teller = (*hostLocal)(nil)

// spared returns what tells the records that GC spares.
func spared(r *plugin.Request) func(addrstore.Record) bool {
	valid := make(map[cni.Attachment]bool)
	for _, a := range r.Config.Valid {
		valid[a] = true
		valid[cni.Attachment{ContainerID: a.ContainerID}] = true // for old records, without an interface
	}
	return func(rec addrstore.Record) bool {
		if cni.ValidateContainerID(rec.ContainerID) != nil || rec.IfName != "" && cni.ValidateIfName(rec.IfName) != nil {
			return true
		}
		return valid[cni.Attachment{ContainerID: rec.ContainerID, IfName: rec.IfName}]
	}
}

// Stale implements plugin.Teller, but for old records, without an interface.
func (h *hostLocal) Stale(ctx context.Context, r *plugin.Request) (map[cni.Attachment][]netip.Addr, error) {
	stale := make(map[cni.Attachment][]netip.Addr)
	spares := spared(r)
	_, err := h.open(ctx, r, func(s *addrstore.Store) ([]netip.Addr, error) {
		return nil, s.Walk(func(a netip.Addr, rec addrstore.Record) {
			if rec.IfName != "" && !spares(rec) {
				holder := cni.Attachment{ContainerID: rec.ContainerID, IfName: rec.IfName}
				stale[holder] = append(stale[holder], a)
			}
		})
	})
	return stale, err
}

// open calls f with the network's store, if it has one.
func (h *hostLocal) open(ctx context.Context, r *plugin.Request, f func(*addrstore.Store) ([]netip.Addr, error)) ([]netip.Addr, error) {
	dataDir, err := parseDataDir(r)
	if err != nil {
		return nil, err
	}
	store, err := h.stores.Open(ctx, dataDir, r.Config.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storeError(r, err)
	}
	defer store.Close()
	released, err := f(store)
	return released, storeError(r, err)
}

// Status implements plugin.IPAM. Its errors are Add's about the configuration,
// and have cni.CodeUnavailable if the network stays locked or its folder can't
// be written to.
//
// Ranges without a free address are an error only where the configuration says
// so. They have one again as soon as a container goes, while Kubernetes would
// take the whole node for one that is not ready, and move its pods.
func (h *hostLocal) Status(ctx context.Context, r *plugin.Request) error {
	c, err := parseConfig(r)
	if err != nil {
		return err
	}
	if c.resolvConf != "" {
		if _, err := readResolvConf(c.resolvConf); err != nil {
			return err
		}
	}
	if err := h.stores.Ready(ctx, c.dataDir, r.Config.Name); err != nil {
		return cni.Errorf(cni.CodeUnavailable, "network %s: %w", r.Config.Name, err).
			WithDetails("addresses can't be kept in ipam.dataDir, " + c.dataDir)
	}
	if !c.statusOnExhaustion {
		return nil
	}
	if err := h.room(ctx, c, r.Config.Name); err != nil {
		return cni.Errorf(cni.CodeUnavailable, "network %s: %w", r.Config.Name, err)
	}
	return nil
}

// room fails with state.CodeExhausted if a range set has no free address.
func (h *hostLocal) room(ctx context.Context, c *config, network string) error {
	store, err := h.stores.Open(ctx, c.dataDir, network)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer store.Close()
	for i, set := range c.sets {
		for free := false; !free; {
			use, err := store.Usage(set.gives)
			if err != nil {
				return err
			}
			free = uint64(use.Held) < set.size()
			if free {
				continue
			}
			// Not before the records themselves have been looked at.
			if again, err := store.Refresh(); !again {
				return errors.Join(exhausted(store, i, set), err)
			}
		}
	}
	return nil
}

// storeError gives an error of the store its code and says of which network it
// is.
func storeError(r *plugin.Request, err error) error {
	if err == nil {
		return nil
	}
	code := cni.CodeIO
	var known *cni.Error
	var busy *addrstore.BusyError
	var taken *addrstore.TakenError
	switch {
	case errors.As(err, &known):
		return fmt.Errorf("network %s: %w", r.Config.Name, err)
	case errors.As(err, &busy):
		code = cni.CodeTryAgain
	case errors.As(err, &taken):
		code = state.CodeConflict
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = cni.CodeTryAgain
	}
	return cni.Errorf(code, "network %s: %w", r.Config.Name, err)
}

func join(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}
