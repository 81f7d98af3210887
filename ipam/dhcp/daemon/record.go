package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/smallfile"
	"github.com/plumb-cni/plumb/ipam/dhcp/wire"
	"github.com/plumb-cni/plumb/state"
)

// A record is what the daemon has to know of an attachment after it was killed.
type record struct {
	Boot  string      `json:"boot"` // numbers of namespaces start anew with the machine
	Owner state.Owner `json:"owner"`

	// The interface: the namespace's path and identity, and what the
	// kernel calls it.
	NetNS   string           `json:"netns"`
	Sandbox netns.ID         `json:"sandbox"`
	Index   int              `json:"index"`
	MAC     net.HardwareAddr `json:"mac"`

	// When it was saved, by the clock and by how long the machine was up: the
	// clock may be set before it is read.
	Saved  time.Time     `json:"saved"`
	Uptime time.Duration `json:"uptime"` // in ns

	Terms wire.Terms `json:"terms"`
	V4    *lease     `json:"ipv4,omitempty"`
	V6    *lease     `json:"ipv6,omitempty"`
}

// A lease is one address.
type lease struct {
	Address netip.Prefix `json:"address"`
	Renew   time.Time    `json:"renew"`  // T1
	Rebind  time.Time    `json:"rebind"` // T2
	Expire  time.Time    `json:"expire"`

	// Reply is the message by which the server gave the address. Server is
	// its identity: an address, or a DUID. Via is the hardware address that
	// a DHCPv4 message to it goes to, its own or that of a relay or router.
	Reply  []byte           `json:"reply"`
	Server []byte           `json:"server"`
	Via    net.HardwareAddr `json:"via,omitempty"`

	// Lost says why the address is not the container's any more; empty while
	// it is.
	Lost string `json:"lost,omitempty"`
}

// minLease is what a lease holds at least. A server that gives none, or one of
// no time, is not to be asked without a pause.
const minLease = 2 * time.Second

// times sets when a lease that was got at a time has to be renewed, rebound,
// and given up. T1 and T2 that make no sense are those of RFC 2131 section
// 4.4.5.
func (l *lease) times(got time.Time, t1, t2, whole time.Duration) {
	whole = max(whole, minLease)
	if t2 <= 0 || t2 >= whole {
		t2 = whole / 8 * 7
	}
	if t1 <= 0 || t1 >= t2 {
		t1 = min(whole/2, t2/2)
	}
	l.Renew, l.Rebind, l.Expire = got.Add(t1), got.Add(t2), got.Add(whole)
}

// as returns the lease with its times as they are on a clock that says now where
// that by which they are set says then; nil of nil.
func (l *lease) as(then, now time.Time) *lease {
	if l == nil {
		return nil
	}
	moved := *l
	for _, t := range []*time.Time{&moved.Renew, &moved.Rebind, &moved.Expire} {
		*t = now.Add(t.Sub(then))
	}
	return &moved
}

// uptime returns how long the machine is up, by a clock that nobody sets.
func uptime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// A store is the folder of the records.
type store struct{ dir string }

func (s store) path(o state.Owner) string { return filepath.Join(s.dir, wire.LeaseFile(o)) }

// save writes a record so that it appears whole.
func (s store) save(r *record) error {
	now, err := uptime()
	if err != nil {
		return err
	}
	saved := *r
	saved.Saved, saved.Uptime = time.Now(), now
	saved.V4, saved.V6 = r.V4.as(saved.Saved, saved.Saved.Round(0)), r.V6.as(saved.Saved, saved.Saved.Round(0))
	data, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	if err := smallfile.Replace(s.path(r.Owner), data, 0o600); err != nil {
		return fmt.Errorf("write lease: %w", err)
	}
	return nil
}

func (s store) remove(o state.Owner) error {
	if err := os.Remove(s.path(o)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove lease: %w", err)
	}
	return nil
}

// load returns all records of this boot and removes what is none.
func (s store) load(boot string) ([]*record, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	up, err := uptime()
	if err != nil {
		return nil, err
	}
	var records []*record
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		if !strings.HasSuffix(path, ".json") {
			continue // the lock
		}
		data, err := smallfile.Read(path)
		if err != nil {
			return nil, err
		}
		r := new(record)
		if json.Unmarshal(data, r) != nil || r.Boot != boot || s.path(r.Owner) != path {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
			continue
		}
		then := time.Now().Add(r.Uptime - up)
		r.V4, r.V6 = r.V4.as(r.Saved, then), r.V6.as(r.Saved, then)
		records = append(records, r)
	}
	return records, nil
}

// bootID returns what tells this boot from others.
func bootID() (string, error) {
	id, err := smallfile.Read("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// addresses are those that are the container's.
func (r *record) addresses() []netip.Addr {
	var addrs []netip.Addr
	for _, l := range []*lease{r.V4, r.V6} {
		if l != nil && l.Lost == "" {
			addrs = append(addrs, l.Address.Addr())
		}
	}
	return addrs
}

// result returns what the leases say.
func (r *record) result() (json.RawMessage, error) {
	result := new(cni.Result)
	if r.V4 != nil {
		if err := r.V4.describe4(result); err != nil {
			return nil, err
		}
	}
	if r.V6 != nil {
		if err := r.V6.describe6(result); err != nil {
			return nil, err
		}
	}
	return result.Encode(cni.Latest)
}
