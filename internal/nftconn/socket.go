package nftconn

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/plumb-cni/plumb/internal/netns"
	"golang.org/x/sys/unix"
)

// A socket is a nfnetlink socket.
//
// The kernel answers while the request is being sent, so that every answer is
// there when send returns: nothing here ever blocks or needs a poller.
type socket struct {
	fd     int
	seq    uint32
	buf    []byte
	trips  int
	failed bool // an answer may be missing, or one too many
}

// receiveLen is more than the kernel puts into one part of a dump (32 KiB).
const receiveLen = 64 << 10

func openSocket(ns *netns.NS) (*socket, error) {
	s := &socket{fd: -1, buf: make([]byte, receiveLen)}
	err := ns.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
		return err
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		err = errors.Join(ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open nfnetlink socket in %s: %w", ns.Path(), err)
	}
	// Errors in words and without the request's text. Kernels that lack an
	// option still give the number.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1)
	}
	return s, nil
}

// sequence returns the first of n numbers for requests.
func (s *socket) sequence(n int) uint32 {
	first := s.seq + 1
	s.seq += uint32(n)
	return first
}

// sendBuffer is what a socket takes in one message by default.
const sendBuffer = 200 << 10

// exchange sends requests and calls take with every answer whose number is
// from first on, until take reports the last one. Answers to earlier requests
// that were given up are skipped.
func (s *socket) exchange(requests []byte, first uint32, take func(message) (last bool)) error {
	if len(requests) > sendBuffer {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(requests)); err != nil {
			return fmt.Errorf("enlarge send buffer: %w", err)
		}
	}
	s.trips++
	for {
		err := unix.Send(s.fd, requests, 0)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			s.failed = true
			return fmt.Errorf("send: %w", err)
		}
	}
	for {
		n, err := unix.Read(s.fd, s.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.failed = true
			return fmt.Errorf("receive: %w", err)
		}
		for m := range messages(s.buf[:n]) {
			if int32(m.seq-first) >= 0 && take(m) {
				return nil
			}
		}
	}
}

// close gets rid of the socket without waiting for the kernel.
//
// Closing a nfnetlink socket waits until everything that anybody has deleted
// from the namespace's nftables is freed, after up to two grace periods of RCU
// (8 to 16 ms). So the socket is sent to a unix socket that only itself can
// receive from, and the kernel's collector of such cycles closes it in its own
// time: at once and for us on kernels before 6.8, which is no worse.
func (s *socket) close() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return unix.Close(s.fd)
	}
	// A failure to send leaves plain closes.
	_ = unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(s.fd, pair[1]), nil, 0)
	return errors.Join(unix.Close(s.fd), unix.Close(pair[1]), unix.Close(pair[0]))
}

// status returns what a message of type NLMSG_ERROR or NLMSG_DONE says: no
// error, or its number and, if the kernel gives it, its text.
func (m message) status() (errno unix.Errno, text string) {
	if len(m.body) < 4 {
		return 0, ""
	}
	errno = unix.Errno(-int32(binary.NativeEndian.Uint32(m.body)))
	if m.kind != unix.NLMSG_ERROR || m.flags&unix.NLM_F_ACK_TLVS == 0 {
		return errno, ""
	}
	rest := m.body[4:]
	skip := headerLen // the request's header
	if m.flags&unix.NLM_F_CAPPED == 0 && len(rest) >= 4 {
		skip = align(int(binary.NativeEndian.Uint32(rest))) // the whole request
	}
	for kind, value := range attributes(rest[min(skip, len(rest)):]) {
		if kind == unix.NLMSGERR_ATTR_MSG {
			text = getString(value)
		}
	}
	return errno, text
}
