// Package cnitool is the command of that name: it adds a network namespace to a
// network, checks it, takes it out again, collects what was forgotten and asks
// for a network's state.
//
// Environment, arguments and the container ID that it derives are those of the
// reference's cnitool, so that either deletes what the other added.
package cnitool

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
)

const usage = `cnitool runs a CNI network configuration on a network namespace.

  cnitool add     NETWORK NETNS   create the interface, print the result
  cnitool check   NETWORK NETNS   verify the interface (networks of 0.4.0 and later)
  cnitool del     NETWORK NETNS   remove the interface
  cnitool gc      NETWORK         delete every attachment to NETWORK that is in the cache
                                  (and call GC of its plugins, 1.1.0 and later, which
                                  without a list of valid attachments leave the others)
  cnitool status  NETWORK         ask the plugins if they are ready (1.1.0 and later)
  cnitool version [NETWORK]       print versions: cnitool's, those of NETWORK's plugins

  -i, --ifname NAME   the interface in NETNS, before CNI_IFNAME

environment
  CNI_PATH         folders with plugins, separated by colons
  NETCONFPATH      folder with network configurations (/etc/cni/net.d)
  CNI_IFNAME       name of the interface (eth0)
  CNI_CONTAINERID  container ID (derived from the path of NETNS)
  CNI_ARGS         KEY=VALUE;KEY=VALUE for every plugin
  CAP_ARGS         JSON object of capability arguments
`

const (
	defaultConfDir = "/etc/cni/net.d"
	defaultIfName  = "eth0"
)

// arguments says how many arguments a command needs and can have. The
// reference has gc and status name a namespace too, which they ignore.
func arguments(verb string) (least, most int, ok bool) {
	switch verb {
	case "add", "check", "del":
		return 2, 2, true
	case "gc", "status":
		return 1, 2, true
	case "version":
		return 0, 1, true
	}
	return 0, 0, false
}

// Run runs the command with args, which don't include its own name, and
// returns its exit status: 0, or 1 after an error that stderr tells of. The
// result of add goes to stdout. Plugins are called through inv; about is the
// version to report, "v1.9.1+plumb.0.1.0".
func Run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer, inv runtime.Invoker, about string) int {
	t := &tool{
		env: env, stdout: stdout, about: about,
		runtime: &runtime.Runtime{
			Path:    filepath.SplitList(env("CNI_PATH")),
			Invoker: inv,
			Warn: func(err error) {
				fmt.Fprintf(stderr, "cnitool: warning: %s\n", indent(err.Error()))
			},
		},
	}
	err := t.run(ctx, args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "cnitool: %s\n", indent(err.Error()))
	if hint := t.hint(err); hint != "" {
		fmt.Fprintf(stderr, "  hint: %s\n", indent(hint))
	}
	return 1
}

// A tool is one invocation.
type tool struct {
	env     func(string) string
	stdout  io.Writer
	about   string
	runtime *runtime.Runtime
	ifName  string // of the option
}

var (
	errUsage    = errors.New("wrong usage")
	errNotFound = errors.New("not found")
)

func (t *tool) run(ctx context.Context, args []string) error {
	args, err := t.options(args)
	if err != nil {
		return err
	}
	if len(args) == 0 || args[0] == "help" {
		_, err := io.WriteString(t.stdout, usage)
		return err
	}
	verb, args := args[0], args[1:]
	least, most, ok := arguments(verb)
	switch {
	case !ok:
		return fmt.Errorf("%w: unknown command %q", errUsage, verb)
	case len(args) < least:
		return fmt.Errorf("%w: %s needs %s", errUsage, verb, []string{"", "NETWORK", "NETWORK and NETNS"}[least])
	case len(args) > most:
		return fmt.Errorf("%w: too many arguments for %s: %q", errUsage, verb, args[most:])
	}
	if verb == "version" && len(args) == 0 {
		_, err := fmt.Fprintf(t.stdout, "cnitool %s\nCNI protocol versions supported: %s\n", t.about, cni.JoinVersions(cni.Versions()))
		return err
	}
	list, err := t.network(args[0])
	if err != nil {
		return err
	}
	switch verb {
	case "gc":
		// As the reference: plugins are not told what is valid, so they
		// remove nothing that the cache doesn't know of.
		return t.runtime.GC(ctx, list, nil)
	case "status":
		if !list.CNIVersion.AtLeast(cni.V110) {
			t.runtime.Warn(fmt.Errorf("network %q is of version %s, which has no STATUS: its plugins were not asked", list.Name, list.CNIVersion))
		}
		return t.runtime.Status(ctx, list)
	case "version":
		return t.version(ctx, list)
	}
	a, err := t.attachment(args[1])
	if err != nil {
		return err
	}
	switch verb {
	case "check":
		return t.runtime.Check(ctx, list, a)
	case "del":
		return t.runtime.Del(ctx, list, a)
	}
	result, err := t.runtime.Add(ctx, list, a)
	if err != nil {
		return err
	}
	data, err := result.Encode(list.CNIVersion)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "%s\n", data)
	return err
}

// options takes -i out of args, wherever it is.
func (t *tool) options(args []string) ([]string, error) {
	var rest []string
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		switch name {
		case "-h", "--help":
			return nil, nil
		case "-i", "--ifname":
			if !given {
				if i++; i == len(args) {
					return nil, fmt.Errorf("%w: %s needs a name", errUsage, name)
				}
				value = args[i]
			}
			t.ifName = value
		default:
			if strings.HasPrefix(name, "-") {
				return nil, fmt.Errorf("%w: unknown option %s", errUsage, name)
			}
			rest = append(rest, args[i])
		}
	}
	return rest, nil
}

// network loads the configuration of that name. Without one, the error tells
// which there are, and which files could not be read.
func (t *tool) network(name string) (*cni.List, error) {
	dir := t.env("NETCONFPATH")
	if dir == "" {
		dir = defaultConfDir
	}
	list, err := cni.FindList(dir, name)
	if err == nil {
		return list, nil
	}
	lists, bad := cni.LoadDir(dir)
	names := make([]string, len(lists))
	for i, l := range lists {
		names[i] = l.Name
	}
	slices.Sort(names)
	err = fmt.Errorf("network %q %w in %s", name, errNotFound, dir)
	if len(names) > 0 {
		err = fmt.Errorf("%w\nnetworks there: %s", err, strings.Join(slices.Compact(names), ", "))
	} else if bad == nil {
		err = fmt.Errorf("%w\nno configuration there at all", err)
	}
	if bad != nil {
		err = fmt.Errorf("%w\n%w", err, bad)
	}
	return nil, err
}

// attachment is what the environment says of the namespace.
func (t *tool) attachment(netns string) (runtime.Attachment, error) {
	var a runtime.Attachment
	var err error
	// Made absolute, but no link is followed: /var/run/netns/x and
	// /run/netns/x are two containers, as they are to the reference.
	if a.NetNS, err = filepath.Abs(netns); err != nil {
		return a, fmt.Errorf("namespace %q: %w", netns, err)
	}
	if a.ContainerID = t.env("CNI_CONTAINERID"); a.ContainerID == "" {
		a.ContainerID = ContainerID(a.NetNS)
	}
	a.IfName = t.ifName
	if a.IfName == "" {
		a.IfName = t.env("CNI_IFNAME")
	}
	if a.IfName == "" {
		a.IfName = defaultIfName
	}
	if s := t.env("CAP_ARGS"); s != "" {
		if err := json.Unmarshal([]byte(s), &a.CapabilityArgs); err != nil {
			return a, fmt.Errorf(`CAP_ARGS %q is no JSON object, such as {"mac":"c2:11:22:33:44:55"}`, s)
		}
	}
	if s := t.env("CNI_ARGS"); s != "" {
		for pair := range strings.SplitSeq(s, ";") {
			key, value, _ := strings.Cut(pair, "=")
			if key == "" || value == "" || strings.Contains(value, "=") {
				return a, fmt.Errorf("CNI_ARGS %q: %q is not KEY=VALUE", s, pair)
			}
			a.Args = append(a.Args, [2]string{key, value})
		}
	}
	return a, nil
}

// ContainerID is the container ID of a namespace that nobody named: the
// reference's, "cnitool-" and the first ten bytes of the path's SHA-512 in
// hexadecimal.
func ContainerID(netns string) string {
	sum := sha512.Sum512([]byte(netns))
	return fmt.Sprintf("cnitool-%x", sum[:10])
}

// version prints what the plugins of a list are. Where they are and of which
// release only an invoker can tell that starts them.
func (t *tool) version(ctx context.Context, list *cni.List) error {
	fmt.Fprintf(t.stdout, "cnitool %s\nnetwork %s: CNI version %s of %s\n", t.about, list.Name, list.CNIVersion, cni.JoinVersions(list.CNIVersions))
	var errs []error
	for _, plugin := range list.Plugins {
		versions, err := t.runtime.Version(ctx, plugin.Type)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(t.stdout, "plugin %s: CNI versions %s\n", plugin.Type, cni.JoinVersions(versions))
		if !slices.Contains(versions, list.CNIVersion) {
			errs = append(errs, fmt.Errorf("plugin %q does not support CNI version %s of network %q", plugin.Type, list.CNIVersion, list.Name))
		}
		if teller, ok := t.runtime.Invoker.(interface {
			About(ctx context.Context, plugin string, path []string) (file, line string, err error)
		}); ok {
			if file, line, err := teller.About(ctx, plugin.Type, t.runtime.Path); err == nil {
				fmt.Fprintf(t.stdout, "  %s: %s\n", file, line)
			}
		}
	}
	return errors.Join(errs...)
}

// hint says what to do about an error, if that is known.
func (t *tool) hint(err error) string {
	missing := (*runtime.NotFoundError)(nil)
	switch {
	case errors.Is(err, errUsage):
		return "cnitool help tells how"
	case errors.Is(err, errNotFound) && t.env("NETCONFPATH") == "":
		return "NETCONFPATH names another folder"
	case errors.As(err, &missing) && t.env("CNI_PATH") == "":
		return "CNI_PATH names the folders with plugins; it is not set"
	case errors.As(err, &missing):
		return "CNI_PATH names the folders with plugins"
	case errors.Is(err, runtime.ErrNotAttached):
		return "add it first; the path of the namespace must be written as it was then, or CNI_CONTAINERID be the same"
	case errors.Is(err, runtime.ErrNoCheck):
		return "raise the configuration's cniVersion to 0.4.0 or later"
	case errors.Is(err, cni.CodeTryAgain):
		return "try again later"
	}
	return ""
}

// indent sets off the lines after the first.
func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }
