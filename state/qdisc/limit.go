// Package qdisc is the state of what links do with packets that wait: limits to
// a rate, and the redirection of packets that arrive.
package qdisc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// A Limit holds what leaves a link to a rate: a token bucket filter, or where
// only some subnets are limited a hierarchical one with a class for what is.
// Inside is a fair queue, if the kernel has one, so that a flow that fills the
// link does not delay the others; otherwise a short one.
//
// The link may take any packet that is up to the bucket's size in one piece; the
// kernel cuts larger ones.
type Limit struct {
	NS    state.NS
	Link  string
	Rate  uint64 // bytes a second
	Burst uint64 // bytes; 0 derives it from the rate, and is not compared

	// Only are the subnets that the limit is for; none means all but Except.
	Only, Except []netip.Prefix

	// To looks at the addresses that packets go to, not at those that they
	// come from.
	To bool
}

var (
	_ state.Extended = Limit{}
	_ state.Marked   = Limit{}
)

const kindName = "qdisc"

// Handles of the discipline at the root tell CHECK what belongs inside. The first
// is that of the reference's, which has no fair queue.
const (
	plainMajor = 1
	fairMajor  = 2
	limited    = 1 // the class of what is limited
	unlimited  = 0 // no class
)

// patience is how long a packet of a queue that is not fair may wait, beyond the
// burst. It is the reference's, whose CHECK compares what follows from it.
const patience = 25 // milliseconds

// What a burst is where none is given: what the rate makes of a time that a busy
// host may need to look after its queues, and no less than some packets.
const (
	derivedBurst = 50 // milliseconds
	leastPackets = 4
)

// Key names the limit by its link.
func (l Limit) Key() state.Key { return LimitKey(l.NS, l.Link) }

// burst returns the size of the bucket in bytes on a link. A packet that does
// not fit is never sent, so it is at least one.
func (l Limit) burst(mtu int) uint64 {
	packet := uint64(mtu) + 18 // and Ethernet's header, with a VLAN
	if l.Burst != 0 {
		return max(l.Burst, packet)
	}
	return max(l.Rate/1000*derivedBurst, leastPackets*packet)
}

// bucket is the limit as the kernel takes it. It counts microseconds, as the
// reference does, up to some minutes.
func (l Limit) bucket(burst uint64) rtnl.Bucket {
	micros := math.Floor(float64(burst) * 1e6 / float64(l.Rate))
	return rtnl.Bucket{Rate: l.Rate, Size: uint32(min(micros*rtnl.TicksPerMicrosecond, math.MaxUint32))}
}

// waiting is how many bytes may wait in a queue that is not fair.
func (l Limit) waiting(burst uint64) uint32 {
	return uint32(min(uint64(float64(l.Rate)*patience/1000)+burst, math.MaxUint32))
}

// target is how long a fair queue lets packets wait for long, in microseconds:
// the kernel's default unless two packets take longer.
func (l Limit) target(mtu int) uint32 {
	return uint32(min(max(5000, 2*uint64(mtu)*1e6/l.Rate), math.MaxUint32))
}

// Marked reports whether the discipline at the root is plumb's, which has the
// fair queue inside. On a kernel that has none it is as the reference's.
func (l Limit) Marked(_ context.Context, r state.Reader) (bool, error) {
	conn, link, err := find(r, l.NS, l.Link)
	if err != nil || link == nil {
		return false, err
	}
	root, err := conn.Qdisc(link.Index, rtnl.QRoot)
	if errors.Is(err, rtnl.ErrNotFound) {
		return false, nil
	}
	return err == nil && isFair(root), err
}

// isFair reports whether a discipline is one with a fair queue inside.
func isFair(root *rtnl.Qdisc) bool {
	return (root.Kind == "tbf" || root.Kind == "htb") && root.Handle.Major() == fairMajor
}

// isLimit reports whether a discipline shows that it is one of plumb's or of the
// reference's: by the fair queue, or by how long a packet may wait.
func isLimit(root *rtnl.Qdisc) bool {
	if root.Kind != "tbf" || root.Handle.Major() != plainMajor {
		return isFair(root)
	}
	burst := uint64(float64(root.Bucket.Size) / rtnl.TicksPerMicrosecond * float64(root.Bucket.Rate) / 1e6)
	waiting := Limit{Rate: root.Bucket.Rate}.waiting(burst)
	rounded := 2 + float64(root.Bucket.Rate)/1e6 // a microsecond's bytes
	return math.Abs(float64(root.Limit)-float64(waiting)) <= rounded
}

// Common is the limit of all subnets: the reference passes over them.
func (l Limit) Common() state.Resource {
	l.Only, l.Except = nil, nil
	return l
}

func (l Limit) selective() bool { return l.Only != nil || l.Except != nil }

// Ensure limits the link. What was at the root before is replaced, unless it is
// the kernel's own.
func (l Limit) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(l.NS)
	if err != nil {
		return nil, err
	}
	link, err := conn.Known(l.Link)
	if err != nil {
		return nil, err
	}
	major := uint16(fairMajor)
	if conn.Lacks(fairQueue) {
		major = plainMajor
	}
	err = l.add(conn, link, major)
	if errors.Is(err, rtnl.ErrExists) {
		if err = remove(conn, link.Index, rtnl.QRoot); err == nil {
			err = l.add(conn, link, major)
		}
	}
	undo := func(context.Context) error { return remove(conn, link.Index, rtnl.QRoot) }
	if errors.Is(err, errNoFairQueue) {
		if err = undo(nil); err == nil {
			err = l.add(conn, link, plainMajor)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", l.Link, err), undo(nil))
	}
	return undo, nil
}

// remove removes what is at a place of a link, which may be nothing.
func remove(conn *rtnl.Conn, index int, parent rtnl.QHandle) error {
	err := conn.DelQdisc(index, parent)
	// What the kernel put there itself can't be removed (ENOENT, EINVAL).
	if errors.Is(err, rtnl.ErrNotFound) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// fairQueue is the kind of the queue inside.
const fairQueue = "fq_codel"

// errNoFairQueue means that the kernel has none.
var errNoFairQueue = errors.New("the kernel has no " + fairQueue)

// add adds all that the limit consists of.
func (l Limit) add(conn *rtnl.Conn, link *rtnl.Link, major uint16) error {
	burst := l.burst(link.MTU)
	bucket, class := l.bucket(burst), rtnl.QClass(major, limited)
	root := rtnl.Qdisc{Index: link.Index, Parent: rtnl.QRoot, Handle: rtnl.QClass(major, 0)}
	if l.selective() {
		direct := uint32(1000)
		root.Kind, root.Direct = "htb", &direct
		if l.Only == nil {
			root.Default = limited
		}
	} else {
		root.Kind, root.Bucket, root.Limit = "tbf", bucket, l.waiting(burst)
	}
	queue := l.queue(link, class)
	if !l.selective() {
		return addQdiscs(conn, append([]rtnl.Qdisc{root}, queue...)) // tbf has a queue of its own, as its limit says
	}
	if err := conn.AddQdiscs(root); err != nil {
		return err
	}
	if err := conn.AddClass(rtnl.Class{Index: link.Index, Handle: class, Bucket: bucket}); err != nil {
		return err
	}
	if filters := l.filters(link.Index, major); len(filters) > 0 {
		if err := conn.AddFilters(filters...); err != nil {
			return err
		}
	}
	if queue == nil {
		queue = []rtnl.Qdisc{{Index: link.Index, Parent: class, Kind: "bfifo", Limit: l.waiting(burst)}}
	}
	return addQdiscs(conn, queue)
}

// queue is the fair one that packets wait in, if there is to be one.
func (l Limit) queue(link *rtnl.Link, class rtnl.QHandle) []rtnl.Qdisc {
	if class.Major() != fairMajor {
		return nil
	}
	return []rtnl.Qdisc{{Index: link.Index, Parent: class, Kind: fairQueue, Target: l.target(link.MTU)}}
}

// addQdiscs fails with errNoFairQueue if that is what the kernel does not have.
func addQdiscs(conn *rtnl.Conn, list []rtnl.Qdisc) error {
	err := conn.AddQdiscs(list...)
	if errors.Is(err, rtnl.ErrNotFound) && conn.Lacks(fairQueue) {
		return fmt.Errorf("%w: %w", errNoFairQueue, err)
	}
	return err
}

// Priorities of the filters, one a family.
const (
	priority4 = 1
	priority6 = 2
)

// filters pick what is limited, or what is not.
func (l Limit) filters(index int, major uint16) []rtnl.Filter {
	subnets, class := l.Only, rtnl.QClass(major, limited)
	if subnets == nil {
		subnets, class = l.Except, rtnl.QClass(major, unlimited)
	}
	var filters []rtnl.Filter
	for _, subnet := range subnets {
		f := rtnl.Filter{
			Index: index, Parent: rtnl.QClass(major, 0), Class: class,
			Priority: priority4, Protocol: unix.ETH_P_IP, Matches: l.matches(subnet),
		}
		if subnet.Addr().Is6() {
			f.Priority, f.Protocol = priority6, unix.ETH_P_IPV6
		}
		filters = append(filters, f)
	}
	return filters
}

// matches compares a packet's address with a subnet, 32 bits at a time.
func (l Limit) matches(subnet netip.Prefix) []rtnl.Match {
	offset := map[[2]bool]int32{ // where the address is in the header (RFC 791, RFC 8200)
		{false, false}: 12, {false, true}: 16,
		{true, false}: 8, {true, true}: 24,
	}[[2]bool{subnet.Addr().Is6(), l.To}]
	addr := subnet.Masked().Addr().AsSlice()
	var matches []rtnl.Match
	for i := 0; 8*i < subnet.Bits(); i += 4 {
		mask := uint32(math.MaxUint32)
		if left := subnet.Bits() - 8*i; left < 32 {
			mask <<= 32 - left
		}
		value := uint32(addr[i])<<24 | uint32(addr[i+1])<<16 | uint32(addr[i+2])<<8 | uint32(addr[i+3])
		matches = append(matches, rtnl.Match{Offset: offset + int32(i), Mask: mask, Value: value})
	}
	return matches
}

// Diff compares the disciplines at the root and inside, the rate, a given burst,
// and the subnets.
func (l Limit) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	conn, link, err := find(r, l.NS, l.Link)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return state.Missing(l.Key()), nil
	}
	root, err := conn.Qdisc(link.Index, rtnl.QRoot)
	if errors.Is(err, rtnl.ErrNotFound) {
		return state.Missing(l.Key()), nil
	}
	if err != nil {
		return nil, err
	}
	want := "tbf"
	if l.selective() {
		want = "htb"
	}
	if root.Kind != want {
		return []state.Drift{{Key: l.Key(), Field: "kind", Want: want, Got: root.Kind}}, nil
	}
	var drifts []state.Drift
	bucket := root.Bucket
	major := root.Handle.Major()
	if l.selective() {
		class, err := conn.Class(link.Index, rtnl.QClass(major, limited))
		if errors.Is(err, rtnl.ErrNotFound) {
			return []state.Drift{{Key: l.Key(), Field: "class", Want: "one", Got: "none"}}, nil
		}
		if err != nil {
			return nil, err
		}
		bucket = class.Bucket
		if drifts, err = l.diffFilters(conn, root, link.Index); err != nil {
			return nil, err
		}
	}
	drifts = append(drifts, l.diffBucket(bucket, link.MTU)...)
	queue, err := l.diffQueue(conn, link.Index, major)
	return append(drifts, queue...), err
}

// diffBucket compares the rate and, if one is given, the burst, which may be one
// that no packet fits in if the reference made it.
func (l Limit) diffBucket(got rtnl.Bucket, mtu int) []state.Drift {
	var drifts []state.Drift
	if got.Rate != l.Rate {
		drifts = append(drifts, state.Drift{
			Key: l.Key(), Field: "rate", Want: fmt.Sprintf("%d bytes/s", l.Rate), Got: fmt.Sprintf("%d bytes/s", got.Rate),
		})
	}
	if l.Burst == 0 {
		return drifts
	}
	near := func(size uint32) bool {
		return math.Abs(float64(got.Size)-float64(size)) <= 2*rtnl.TicksPerMicrosecond
	}
	if want := l.bucket(l.burst(mtu)).Size; !near(want) && !near(l.bucket(l.Burst).Size) {
		drifts = append(drifts, state.Drift{Key: l.Key(), Field: "burst", Want: micros(want), Got: micros(got.Size)})
	}
	return drifts
}

// micros writes the size of a bucket.
func micros(ticks uint32) string {
	return fmt.Sprintf("%.0f µs at the rate", float64(ticks)/rtnl.TicksPerMicrosecond)
}

// diffFilters compares which subnets are picked, and what becomes of the rest.
func (l Limit) diffFilters(conn rtnl.Reader, root *rtnl.Qdisc, index int) ([]state.Drift, error) {
	var drifts []state.Drift
	if want := l.Only == nil; want != (root.Default == limited) {
		drifts = append(drifts, state.Drift{
			Key: l.Key(), Field: "limit on other subnets", Want: fmt.Sprint(want), Got: fmt.Sprint(!want),
		})
	}
	got, err := conn.Filters(index, root.Handle)
	if err != nil {
		return nil, err
	}
	for i, want := range l.filters(index, root.Handle.Major()) {
		if slices.ContainsFunc(got, func(f rtnl.Filter) bool {
			return f.Class == want.Class && f.Protocol == want.Protocol && slices.Equal(f.Matches, want.Matches)
		}) {
			continue
		}
		subnet := append(slices.Clone(l.Only), l.Except...)[i]
		drifts = append(drifts, state.Drift{Key: l.Key(), Field: "filter for " + subnet.String(), Want: "one", Got: "none"})
	}
	return drifts, nil
}

// diffQueue reports that the fair queue is gone. Another one can't be removed.
func (l Limit) diffQueue(conn rtnl.Reader, index int, major uint16) ([]state.Drift, error) {
	if major != fairMajor {
		return nil, nil
	}
	got := "none"
	queue, err := conn.Qdisc(index, rtnl.QClass(major, limited))
	if err == nil {
		got = queue.Kind
	} else if !errors.Is(err, rtnl.ErrNotFound) {
		return nil, err
	}
	if got != fairQueue {
		return []state.Drift{{Key: l.Key(), Field: "queue inside", Want: fairQueue, Got: got}}, nil
	}
	return nil, nil
}

// find returns a link, nil if it or its namespace is gone.
func find(r state.Reader, ns state.NS, name string) (rtnl.Reader, *rtnl.Link, error) {
	conn, err := r.Route(ns)
	if errors.Is(err, state.ErrNoSandbox) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	link, err := conn.Link(name)
	if errors.Is(err, rtnl.ErrNotFound) {
		return conn, nil, nil
	}
	return conn, link, err
}
