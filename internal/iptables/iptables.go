// Package iptables runs the iptables programs that read and write whole
// tables. Looking for single rules is left to package nftconn, which needs no
// process.
package iptables

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"golang.org/x/sys/unix"
)

// ErrMissing means that there is no such program on the host. Its code is
// cni.CodeUnavailable, and that of a program which fails cni.CodeIO.
var ErrMissing = errors.New("not installed")

// A Variant tells which of the kernel's two implementations to talk to.
type Variant string

// Variants.
const (
	Default Variant = ""       // the one that the host has chosen
	Legacy  Variant = "legacy" // ip_tables and ip6_tables
	NFT     Variant = "nft"    // tables of nftables
)

// Restore applies a script in the format of iptables-save to the namespace, on
// top of what is there. A table of the script is changed whole or not at all.
// The error matches ErrMissing if there is no program for it.
func Restore(ctx context.Context, ns *netns.NS, f nftconn.Family, v Variant, script string) error {
	_, err := run(ctx, ns, f, v, "restore", script, "--noflush", "-w")
	return err
}

// Quote writes an argument for Restore.
func Quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Converge applies the script that a function makes of what there is, "" for
// nothing to do, and tells whether there was something. Between the look and
// the change somebody else may have changed the same, so that a script which
// creates a chain or deletes a rule fails. Then the function is asked again,
// until what it returns is no other than what has failed.
func Converge(ctx context.Context, ns *netns.NS, f nftconn.Family, v Variant, script func() (string, error)) (changed bool, err error) {
	for tried := ""; ; {
		next, scriptErr := script()
		if scriptErr != nil || next == "" {
			return false, scriptErr
		}
		if next == tried {
			return false, err
		}
		if err = Restore(ctx, ns, f, v, next); err == nil {
			return true, nil
		}
		tried = next
	}
}

// Save returns a table in the format of iptables-save.
func Save(ctx context.Context, ns *netns.NS, f nftconn.Family, v Variant, table string) (string, error) {
	return run(ctx, ns, f, v, "save", "", "-t", table)
}

// Installed fails with ErrMissing if there is no program to restore a family's
// tables with.
func Installed(f nftconn.Family) error {
	_, err := find(name(f, Default, "restore"))
	return err
}

// Chosen returns the variant that the host has chosen for a family. The error
// matches ErrMissing if no program is installed.
func Chosen(f nftconn.Family) (Variant, error) {
	path, err := find(name(f, Default, "restore"))
	if err != nil {
		return "", err
	}
	return variantOf(path)
}

// variantOf returns the variant that a program is of: it is a link to one that
// is all of its variant's in one.
func variantOf(path string) (Variant, error) {
	for range maxLinks {
		target, err := os.Readlink(path)
		if errors.Is(err, unix.EINVAL) { // it is no link
			break
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	if strings.Contains(filepath.Base(path), "nft") {
		return NFT, nil
	}
	return Legacy, nil
}

// maxLinks is how many links the kernel follows (MAXSYMLINKS). Only that of the
// last name matters, which saves looking at each folder as
// filepath.EvalSymlinks does.
const maxLinks = 40

// program returns the path of a program of a variant. Where there is only one
// variant it may have no name of its own.
func program(f nftconn.Family, v Variant, verb string) (string, error) {
	usual := name(f, Default, verb)
	if v == Default {
		return find(usual)
	}
	path, err := find(name(f, v, verb))
	if err == nil {
		return path, nil
	}
	if path, err := find(usual); err == nil {
		if is, err := variantOf(path); err == nil && is == v {
			return path, nil
		}
	}
	return "", err
}

// name returns the name under which a program is installed.
func name(f nftconn.Family, v Variant, verb string) string {
	tool := "iptables"
	if f == nftconn.IPv6 {
		tool = "ip6tables"
	}
	if v == Default {
		return tool + "-" + verb
	}
	return tool + "-" + string(v) + "-" + verb
}

// folders are where the programs are looked for. PATH is not asked: runtimes
// start plugins with a short one, or none, and a process that plugins are linked
// into may have another for its own purposes.
func folders() []string {
	return []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"}
}

func find(name string) (string, error) {
	for _, dir := range folders() {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", cni.Errorf(cni.CodeUnavailable, "%s: %w (not in %s)", name, ErrMissing, strings.Join(folders(), ", ")).
		WithDetails("install iptables, or leave the work to nftables")
}

// oneLine is what a program has to say, without where its manual is.
func oneLine(said string) string {
	var parts []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Try ") {
			parts = append(parts, strings.TrimSuffix(line, "."))
		}
	}
	return strings.Join(parts, ", ")
}

func run(ctx context.Context, ns *netns.NS, f nftconn.Family, v Variant, verb, stdin string, args ...string) (string, error) {
	path, err := program(f, v, verb)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	err = ns.Do(func() error {
		// The child starts on this thread and so in its namespace. When this
		// process is killed, it must not go on to make what a DEL has removed
		// by then.
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
		cmd.Env = []string{"PATH=" + strings.Join(folders(), ":")} // they may start modprobe
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
		return cmd.Run()
	})
	if err != nil {
		return "", cni.Errorf(cni.CodeIO, "%s: %w: %s", filepath.Base(path), err, oneLine(stderr.String()))
	}
	return stdout.String(), nil
}
