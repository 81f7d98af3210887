package addrstore

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LastReserved returns the address that was last reserved for range set n, the
// zero Addr if that is not known.
func (s *Store) LastReserved(n int) netip.Addr {
	data, err := readSmall(s.path(lastReserved(n)))
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(strings.TrimSpace(string(data)))
	return a.Unmap()
}

// SetLastReserved notes the address that was last reserved for range set n.
// It is written in place: it is a hint, and one that is torn is no hint.
func (s *Store) SetLastReserved(n int, a netip.Addr) error {
	path := s.path(lastReserved(n))
	s.changed = true
	s.opener.mark("open last reserved")
	f, err := open(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
	if err != nil {
		return err
	}
	defer f.close()
	s.opener.mark("write last reserved")
	text := a.String()
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return wrap("write", path, err)
	}
	// Truncating first would make ext4 flush the file when it is closed.
	s.opener.mark("truncate last reserved")
	return wrap("truncate", path, unix.Ftruncate(int(f), int64(len(text))))
}

func lastReserved(n int) string { return "last_reserved_ip." + strconv.Itoa(n) }
