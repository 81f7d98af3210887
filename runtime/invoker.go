package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// An Invoker calls plugins. Exec does so by starting a process; a registry of
// plugins that are linked into the program can do so directly.
// Implementations must be safe for concurrent use.
type Invoker interface {
	// Invoke calls the plugin of that type, looked for in req.Path. The
	// result is that of ADD and nil for every other verb.
	Invoke(ctx context.Context, plugin string, req *cni.Request) (*cni.Result, error)

	// Versions asks the plugin which versions of the protocol it supports.
	// They may include versions that this module doesn't know.
	Versions(ctx context.Context, plugin string, path []string) ([]cni.Version, error)
}

// A Chainer is an Invoker that deletes faster if it knows which calls belong
// together.
type Chainer interface {
	Invoker

	// Chain returns a context for the calls of one list's DEL, which may
	// return before the plugin has ended, and what waits until all have. That
	// returns the errors of those, joined, and has to be called.
	Chain(ctx context.Context) (chained context.Context, wait func() error)
}

// A PluginError says which call of which plugin failed, and how. It unwraps to
// what the plugin answered, so that errors.Is tells it apart by cni.Code, or to
// what kept it from running: *NotFoundError, context.Canceled, an *os.PathError.
type PluginError struct {
	Plugin      string // its type
	Verb        cni.Verb
	Network     string // empty if not known
	ContainerID string // empty for verbs without attachment
	IfName      string
	Exit        string // "exit status 1", "signal: killed"; empty if it did not run
	Stderr      string // the last lines of its standard error
	Err         error
}

// Error names the call, then its end, then what the plugin said of it.
func (e *PluginError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugin %q %s", e.Plugin, e.Verb)
	for _, f := range []struct{ name, value string }{
		{"network", e.Network}, {"container", e.ContainerID}, {"interface", e.IfName},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, ", %s %q", f.name, f.value)
		}
	}
	if e.Exit != "" {
		fmt.Fprintf(&b, ": %s", e.Exit)
	}
	fmt.Fprintf(&b, ": %s", e.said())
	if answer := (*cni.Error)(nil); errors.As(e.Err, &answer) && answer.Code != 0 && answer.Code != cni.CodeInternal {
		fmt.Fprintf(&b, " (code %d)", answer.Code)
	}
	if e.Stderr != "" {
		fmt.Fprintf(&b, "; stderr: %q", e.Stderr)
	}
	return b.String()
}

// said is what the plugin said, without whose call it was, which has been said
// already.
func (e *PluginError) said() string {
	answer := (*cni.Error)(nil)
	if !errors.As(e.Err, &answer) {
		return e.Err.Error()
	}
	short := answer.NotAbout(cni.Subject{
		Plugin: e.Plugin, Verb: e.Verb, Network: e.Network, ContainerID: e.ContainerID, IfName: e.IfName,
	})
	return strings.Replace(e.Err.Error(), answer.Error(), short.Error(), 1)
}

// Unwrap returns Err.
func (e *PluginError) Unwrap() error { return e.Err }

// A NotFoundError says that a plugin's executable is in none of the folders.
// It matches fs.ErrNotExist.
type NotFoundError struct {
	Plugin string
	Path   []string // the folders that were searched, in order
	Unfit  []string // files of that name that are not executable files
}

// Error names every folder that was searched.
func (e *NotFoundError) Error() string {
	if len(e.Path) == 0 {
		return fmt.Sprintf("no folder to search for plugin %q: the path list is empty", e.Plugin)
	}
	s := fmt.Sprintf("no executable of plugin %q in %s", e.Plugin, strings.Join(e.Path, ", "))
	if len(e.Unfit) > 0 {
		s += " (not executable: " + strings.Join(e.Unfit, ", ") + ")"
	}
	return s
}

// Is reports whether target is fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }
