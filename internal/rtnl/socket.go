package rtnl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The library finds out about the order of bytes when it is first asked, and keeps
// it without a lock: it is asked here, before two can at once.
var _ = nl.NativeEndian()

// A socket is a rtnetlink socket.
//
// The kernel answers while a request is being sent, and continues a dump while
// it is being read, so that nothing here ever has to wait. That is why Go's
// poller isn't told of the descriptor: it would wake a thread for each answer.
type socket struct {
	fd     int
	seq    uint32
	buf    []byte
	failed bool // an answer may be missing, or one too many
}

// Sizes of the buffer: at first, for answers about single objects, and for a dump,
// of which the kernel puts no more into one part than 32 KiB.
const (
	answerLen = 4 << 10
	dumpLen   = 64 << 10
)

func openSocket(ns *netns.NS) (*socket, error) {
	s := &socket{fd: -1, buf: make([]byte, answerLen)}
	err := ns.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket in %s: %w", ns.Path(), err)
	}
	// Conveniences that every supported kernel has: errors in words, without
	// the request's text, and dumps filtered by the kernel.
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1)
	}
	return s, nil
}

func (s *socket) close() error { return unix.Close(s.fd) }

// errInterrupted means that what a dump lists has changed meanwhile, so that it
// may lack some of what was there all the time.
var errInterrupted = errors.New("dump was interrupted by a change")

// interruptions is how often a dump is tried.
const interruptions = 20

// exchange sends a request and returns the bodies of the answers of a type. A
// failure reported by the kernel is a unix.Errno with the kernel's words.
//
// A request with NLM_F_ECHO is answered by what it made, if the kernel can, and
// then by an acknowledgement.
func (s *socket) exchange(r *nl.NetlinkRequest, answer uint16) (bodies [][]byte, err error) {
	if r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
		s.enlarge(dumpLen)
	}
	echo := r.Flags&unix.NLM_F_ECHO != 0
	for range interruptions {
		s.seq++
		r.Seq = s.seq
		if err := s.send(r.Serialize()); err != nil {
			return nil, fmt.Errorf("send: %w", err)
		}
		if bodies, err = s.receive(answer, echo); !errors.Is(err, errInterrupted) {
			break
		}
	}
	return bodies, err
}

// acknowledged sends requests in one message, each of which the kernel
// acknowledges, and returns what became of each. The kernel goes on after one
// that failed. The answers have to fit into the socket's buffer.
func (s *socket) acknowledged(requests []*nl.NetlinkRequest) ([]error, error) {
	var message []byte
	first := s.seq + 1
	for _, r := range requests {
		s.seq++
		r.Seq = s.seq
		message = append(message, r.Serialize()...)
	}
	last := s.seq
	if err := s.send(message); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	errs := make([]error, len(requests))
	for i := range requests {
		s.seq = first + uint32(i) // whose answer it is
		_, errs[i] = s.receive(0, false)
	}
	s.seq = last
	return errs, nil
}

func (s *socket) send(request []byte) error {
	for {
		err := unix.Send(s.fd, request, 0)
		if err == unix.EINTR {
			continue
		}
		s.failed = s.failed || err != nil
		return err
	}
}

// enlarge makes the buffer hold at least so much.
func (s *socket) enlarge(n int) {
	if n > len(s.buf) {
		s.buf = make([]byte, n)
	}
}

// read reads what is next, however long it is.
func (s *socket) read() (int, error) {
	if len(s.buf) >= dumpLen {
		return unix.Read(s.fd, s.buf)
	}
	n, _, err := unix.Recvfrom(s.fd, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
	if err != nil {
		return 0, err
	}
	s.enlarge(n)
	return unix.Read(s.fd, s.buf)
}

// receive reads up to the end of the answers to the last request. Whatever was
// left unread of earlier ones is skipped. After an echo, the end is an
// acknowledgement.
func (s *socket) receive(answer uint16, echo bool) (bodies [][]byte, err error) {
	interrupted := false
	for {
		n, err := s.read()
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.failed = true
			return nil, fmt.Errorf("receive: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(s.buf[:n])
		if err != nil {
			s.failed = true
			return nil, fmt.Errorf("receive: %w", err)
		}
		for _, m := range msgs {
			if m.Header.Seq != s.seq {
				continue
			}
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			last := !echo && m.Header.Flags&unix.NLM_F_MULTI == 0
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if err := status(m); err != nil {
					return nil, err
				}
				last = true
			case answer:
				bodies = append(bodies, bytes.Clone(m.Data)) // of a buffer that is used again
			}
			if !last {
				continue
			}
			if interrupted {
				return nil, errInterrupted
			}
			return bodies, nil
		}
	}
}

// status returns the error that a message of type NLMSG_ERROR or NLMSG_DONE
// reports, nil for an acknowledgement.
func status(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return nil
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	if errno == 0 {
		return nil
	}
	if m.Header.Type == unix.NLMSG_ERROR && m.Header.Flags&unix.NLM_F_ACK_TLVS != 0 {
		if text := explanation(m.Data[4:], m.Header.Flags&unix.NLM_F_CAPPED != 0); text != "" {
			return fmt.Errorf("%w: %s", errno, text)
		}
	}
	return errno
}

// explanation returns the kernel's words, which follow the request or, if that
// was left out, its header.
func explanation(data []byte, capped bool) string {
	if len(data) < unix.SizeofNlMsghdr {
		return ""
	}
	skip := unix.SizeofNlMsghdr
	if !capped {
		skip = int(binary.NativeEndian.Uint32(data)+3) &^ 3
	}
	text := ""
	_ = eachAttr(data[min(skip, len(data)):], func(kind uint16, value []byte) { // without words if they can't be read
		if kind == unix.NLMSGERR_ATTR_MSG {
			text = unix.ByteSliceToString(value)
		}
	})
	return text
}
