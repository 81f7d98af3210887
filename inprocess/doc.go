// Package inprocess runs the plugins of this module without a process.
//
//	invoker := inprocess.New(inprocess.Options{})
//	defer invoker.Close()
//	r := &runtime.Runtime{Path: []string{"/opt/cni/bin"}, Invoker: invoker}
//	result, err := r.Add(ctx, list, attachment)
//
// Results and errors are those of the plugins as programs. Plugins that are not
// ours, in a list or as its IPAM plugin, are executed: also one that has the name
// of one of ours but is found first on the path. Of a name that is not on the
// path at all, ours is meant, so that no program need be installed.
//
// # What a caller can rely on
//
// A plugin that panics fails its call. One that doesn't end although its context
// has is given up after [Options.Grace]: its caller gets an error, and what it
// holds is given back when it ends, if ever. Every call has a goroutine, and a
// thread that could not return from a container's namespace ends with that.
//
// Any number of calls may be made at once. 128 are served at a time, or fewer where
// the process may have few descriptors; the others wait for their turn, as long as
// their context lasts.
//
// The host's namespace is that of the thread which calls, as it is for a program
// that the thread executes. The plugins need the privileges of the process:
// CAP_NET_ADMIN and CAP_SYS_ADMIN, and to write to /run/plumb and /var/lib/cni.
//
// # What is kept
//
// From one call to the next an Invoker keeps open a few namespaces of hosts and
// some sockets in each, so that a call needn't wait for their closing, and
// nothing of containers. [Invoker.Close] closes them.
package inprocess
