package plugin

import (
	"errors"

	"github.com/plumb-cni/plumb/cni"
	"golang.org/x/sys/unix"
)

// A refusal is what an error of the kernel's means where nothing nearer to it has
// said what it means.
type refusal struct {
	errno unix.Errno
	code  cni.Code
	hint  string
}

func refusals() []refusal {
	const (
		values   = "the kernel does not take what the configuration, or IPAM, asks for there"
		gone     = "another plugin of the list has to make it before, or it has just gone"
		busy     = "the host has no room for it just now"
		inTheWay = "something else is where plumb, or the reference, keeps a file or a folder; move it away"
		rights   = "plugins run as root, with the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN"
	)
	return []refusal{
		{unix.ENODEV, cni.CodeInvalidConfig, gone},
		{unix.EINVAL, cni.CodeInvalidConfig, values},
		{unix.ERANGE, cni.CodeInvalidConfig, values},
		{unix.EADDRNOTAVAIL, cni.CodeInvalidConfig, values},
		{unix.EPERM, cni.CodeInvalidEnvironment, rights},
		{unix.EACCES, cni.CodeInvalidEnvironment, rights},
		{unix.EROFS, cni.CodeIO, "what is named has to be writable where plugins run"},
		{unix.ENOSPC, cni.CodeIO, "make room"},
		{unix.EDQUOT, cni.CodeIO, "make room"},
		{unix.ENOTDIR, cni.CodeIO, inTheWay},
		{unix.EISDIR, cni.CodeIO, inTheWay},
		{unix.EIO, cni.CodeIO, ""},
		{unix.EMFILE, cni.CodeTryAgain, busy},
		{unix.ENFILE, cni.CodeTryAgain, busy},
		{unix.ENOMEM, cni.CodeTryAgain, busy},
		{unix.ENOBUFS, cni.CodeTryAgain, busy},
	}
}

// asError returns an error as one of the specification. One without a code has that
// of the kernel's refusal, if it is one.
func asError(err error) *cni.Error {
	e := cni.AsError(err)
	if e.Code != cni.CodeInternal || errors.Is(err, cni.CodeInternal) {
		return e
	}
	for _, r := range refusals() {
		if errors.Is(err, r.errno) {
			return cni.Errorf(r.code, "%w", err).WithDetails(r.hint)
		}
	}
	return e
}
