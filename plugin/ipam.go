package plugin

import (
	"context"
	"net/netip"
	"reflect"

	"github.com/plumb-cni/plumb/cni"
)

// An IPAM allocates addresses for interface plugins (SPEC section 4).
// Allocation is not kernel state: these methods act, and the engine has no
// part in it.
type IPAM interface {
	// Name is the type under which configurations ask for the plugin.
	Name() string

	// Config is the type of what the plugin reads of a configuration, the
	// section "ipam" among it; see Plugin.Config.
	Config() reflect.Type

	// Add allocates and returns addresses, routes and DNS, without
	// interfaces. When it fails nothing stays allocated.
	Add(ctx context.Context, r *Request) (*cni.Result, error)

	// Check fails if the attachment no longer holds what prevResult says.
	Check(ctx context.Context, r *Request) error

	// Held returns the addresses that the attachment holds, none if it holds
	// none. The configuration may have been edited since ADD.
	Held(ctx context.Context, r *Request) ([]netip.Addr, error)

	// Del releases whatever the attachment holds and returns it. Nothing
	// held is success. The configuration may have been edited since ADD.
	Del(ctx context.Context, r *Request) (released []netip.Addr, err error)

	// GC releases what no attachment in r.Config.Valid holds, and returns
	// it. It is called only if r.Config.HasValid.
	GC(ctx context.Context, r *Request) (released []netip.Addr, err error)

	// Status fails if Add could not succeed now: with Add's error about the
	// configuration, with cni.CodeUnavailable for any other reason.
	Status(ctx context.Context, r *Request) error
}

// A LinkUser is an IPAM plugin that needs the attachment's link to give an
// address back: a DHCP client speaks to its server over that. It releases
// before the link goes, and not after.
type LinkUser interface {
	IPAM
	NeedsLink()
}

// A Rememberer is an IPAM plugin that knows whether anybody has had the addresses
// before: whoever spoke to that one may have its hardware address still.
type Rememberer interface {
	IPAM

	// AddFresh is Add that reports whether nobody on this host has had any of
	// the addresses since it booted.
	AddFresh(ctx context.Context, r *Request) (result *cni.Result, fresh bool, err error)
}

// A Teller is an IPAM plugin that knows who holds addresses. Of an attachment that
// no record tells of, GC removes what follows from its addresses while they are
// still its own.
type Teller interface {
	IPAM

	// Stale returns the attachments that GC would release addresses of, with
	// these. It is called only if r.Config.HasValid.
	Stale(ctx context.Context, r *Request) (map[cni.Attachment][]netip.Addr, error)
}
