// Package tap makes tap devices, which rtnetlink can't: a program opens
// /dev/net/tun in the namespace and asks for one (Documentation/networking/tuntap.rst).
package tap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/plumb-cni/plumb/internal/netns"
	"golang.org/x/sys/unix"
)

// A Device is a tap device that stays when nobody has it open.
type Device struct {
	Name         string
	Owner, Group *int // who may open it; nil is nobody in particular
	MultiQueue   bool // several processes or threads at a time

	// Label is the SELinux context that the device is made in; empty is the
	// caller's.
	Label string
}

// ErrNoSELinux means that a label was asked for and the kernel has no SELinux.
var ErrNoSELinux = errors.New("the kernel has no SELinux, or it is disabled")

// ErrUnavailable means that the kernel has no tap devices, or lets nobody here make
// one.
var ErrUnavailable = errors.New("no tap devices")

// Available fails with ErrUnavailable if no device could be made. It makes none.
func Available() error {
	fd, err := open()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func open() (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: open /dev/net/tun: %w", ErrUnavailable, err)
	}
	return fd, nil
}

// Create makes the device in a namespace. The error matches unix.EBUSY if the
// name is taken, ErrNoSELinux, and ErrUnavailable.
func (d Device) Create(ns *netns.NS) error {
	err := ns.Do(func() error {
		if d.Label != "" {
			return d.createLabelled()
		}
		return d.create()
	})
	if err != nil {
		return fmt.Errorf("add tap %s: %w", d.Name, err)
	}
	return nil
}

// create makes the device in the calling thread's namespace.
func (d Device) create() error {
	fd, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(d.Name)
	if err != nil {
		return err
	}
	flags := unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL
	if d.MultiQueue {
		flags |= unix.IFF_MULTI_QUEUE
	}
	request.SetUint16(uint16(flags))
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	if d.Owner != nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOWNER, *d.Owner)
	}
	if err == nil && d.Group != nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETGROUP, *d.Group)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	return err // the device goes with the descriptor unless it is persistent
}

// createLabelled has ip(8) make the device. SELinux gives a tap device the
// context of the process that makes it, and lets a process with threads, which
// every Go program is, change its context only by executing a program.
func (d Device) createLabelled() error {
	program, err := ip()
	if err != nil {
		return err
	}
	if err := setExecLabel(d.Label); err != nil {
		return err
	}
	args := []string{"tuntap", "add", "mode", "tap", "name", d.Name}
	if d.MultiQueue {
		args = append(args, "multi_queue")
	}
	if d.Owner != nil {
		args = append(args, "user", strconv.Itoa(*d.Owner))
	}
	if d.Group != nil {
		args = append(args, "group", strconv.Itoa(*d.Group))
	}
	cmd := exec.Command(program, args...) // starts on this thread, and so with its context and namespace
	cmd.Env = []string{}
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL} // or it makes what a DEL after this process's end doesn't find yet
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s tuntap add: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return errors.Join(err, setExecLabel(""))
}

// ip returns the path of ip(8). PATH is not asked: runtimes start plugins with
// a short one, or none.
func ip() (string, error) {
	for _, path := range []string{"/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", errors.New("ip(8) is not installed, which makes tap devices with an SELinux context")
}

// setExecLabel sets the context of the next program that the calling thread
// executes; empty is the policy's choice.
func setExecLabel(label string) error {
	fd, err := unix.Open("/sys/fs/selinux/enforce", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ErrNoSELinux
	}
	unix.Close(fd)
	fd, err = unix.Open("/proc/thread-self/attr/exec", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/thread-self/attr/exec: %w", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(label)); err != nil {
		return fmt.Errorf("SELinux context %q: %w", label, err)
	}
	return nil
}
