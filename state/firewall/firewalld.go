package firewall

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/dbus"
	"github.com/plumb-cni/plumb/state"
)

// errNotRunning means that firewalld does not run.
var errNotRunning = errors.New("firewalld does not run: it is not on the D-Bus system bus")

// What firewalld's interface for zones is called
// (firewalld.org/documentation/man-pages/firewalld.dbus.html).
const (
	firewalldService = "org.fedoraproject.FirewallD1"
	firewalldPath    = "/org/fedoraproject/FirewallD1"
	zoneMethods      = "org.fedoraproject.FirewallD1.zone."
)

// zones are firewalld's. The sources added are of its running state: they are
// gone when it reloads, as those of the reference are.
type zones struct{ conn *dbus.Conn }

// dialFirewalld fails with errNotRunning if there is none to talk to.
func dialFirewalld(ctx context.Context) (*zones, error) {
	conn, err := dbus.Dial(ctx, dbus.SystemBus)
	if errors.Is(err, dbus.ErrNoBus) {
		return nil, errors.Join(errNotRunning, err)
	}
	if err != nil {
		return nil, err
	}
	runs, err := conn.HasOwner(firewalldService)
	if err == nil && !runs {
		err = errNotRunning
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &zones{conn}, nil
}

// close closes the connection, which may be none.
func (z *zones) close() {
	if z != nil {
		_ = z.conn.Close() // nothing is under way
	}
}

func (z *zones) call(method string, args ...string) (string, error) {
	return z.conn.Call(dbus.Object{Service: firewalldService, Path: firewalldPath}, zoneMethods+method, args...)
}

// refused tells whether firewalld has refused for a reason, which its message
// begins with.
func refused(err error, reasons ...string) bool {
	var e *dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, r := range reasons {
		if strings.HasPrefix(e.Text, r) {
			return true
		}
	}
	return false
}

// source writes an address as the reference does: firewalld compares sources as
// texts.
func source(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// zoneOf returns the zone that an address is a source of, and the source's text:
// the reference's, or that of a person. The zone is "" for none.
func (z *zones) zoneOf(a netip.Addr) (zone, text string, err error) {
	for _, text := range []string{source(a), a.String()} {
		zone, err := z.call("getZoneOfSource", text)
		if err != nil || zone != "" {
			return zone, text, err
		}
	}
	return "", "", nil
}

// add puts addresses into a zone and returns those that were in none.
func (z *zones) add(zone string, addrs []netip.Addr) (added []netip.Addr, err error) {
	for _, a := range addrs {
		in, _, err := z.zoneOf(a)
		if err != nil {
			return added, err
		}
		if in == zone {
			continue
		}
		if in != "" {
			return added, cni.Errorf(state.CodeConflict, "%s is in firewalld's zone %s already, and can't be put into %s; remove it there", a, in, zone)
		}
		_, err = z.call("addSource", zone, source(a))
		if refused(err, "ALREADY_ENABLED", "ZONE_ALREADY_SET") {
			continue
		}
		if refused(err, "INVALID_ZONE") {
			return added, cni.Errorf(cni.CodeInvalidConfig, "firewalldZone: firewalld has no zone %s", zone)
		}
		if err != nil {
			return added, err
		}
		added = append(added, a)
	}
	return added, nil
}

// missing returns the addresses that are not in a zone.
func (z *zones) missing(zone string, addrs []netip.Addr) (missing []netip.Addr, err error) {
	for _, a := range addrs {
		in, _, err := z.zoneOf(a)
		if err != nil {
			return nil, err
		}
		if in != zone {
			missing = append(missing, a)
		}
	}
	return missing, nil
}

// anyZone is that of an address that is known to be plumb's, whichever it is in.
// No zone has this name.
const anyZone = "*"

// remove takes addresses out of a zone. Those in another are somebody else's.
func (z *zones) remove(zone string, addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		in, text, err := z.zoneOf(a)
		if err == nil && in != "" && (in == zone || zone == anyZone) {
			_, err = z.call("removeSource", in, text)
		}
		if refused(err, "UNKNOWN_SOURCE", "NOT_ENABLED") {
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeSources takes addresses out of a zone if firewalld runs.
func removeSources(ctx context.Context, zone string, addrs []netip.Addr) error {
	if zone == "" || addrs == nil {
		return nil
	}
	z, err := dialFirewalld(ctx)
	if errors.Is(err, errNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer z.close()
	return z.remove(zone, addrs)
}
