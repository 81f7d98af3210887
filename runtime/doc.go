// Package runtime runs network configurations: it calls the plugins of a list
// in order, hands each the result of the one before, remembers attachments and
// collects those that were forgotten (SPEC section 3, "Execution of Network
// Configurations").
//
// # Where it departs from the specification
//
// On DEL the specification halts at the first plugin that fails, and what the
// remaining plugins made leaks. Here every plugin is called, also when another
// fails or its executable is missing; the errors are joined, and the cached
// attachment is kept until all have succeeded, so that DEL can be repeated
// with the result it needs.
//
// # The cache
//
// Attachments are cached in the format of libcni, under its names in its
// folder (/var/lib/cni/results), so that either reads what the other wrote.
// Files appear whole. A file that cannot be understood is reported to
// Runtime.Warn and stops neither DEL nor GC.
//
// # Many at once
//
// AddAll and DelAll take many attachments, of any networks, and return what
// became of each. What a machine can do at once is theirs to know: the kernel
// adds links one after another, but takes hundreds away as fast as one.
//
// # Who must not run at the same time
//
// Every method may be called concurrently. It remains the caller's duty not to
// operate on one container twice at once, and not to run GC beside ADD or DEL
// of the same network (SPEC section 3, "Lifecycle & Ordering").
package runtime
